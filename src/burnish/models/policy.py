"""A model that writes as a policy: how likely its tokens are, how open it is, and what a text gains on its group."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Advantage: TypeAlias = Literal["grpo", "dr_grpo", "rloo"]

FLAT = 1e-6  # rewards that lie closer together than this say nothing
TINY = 1e-4  # added to a group's deviation, as its makers do
ROWS = 512  # of logits at a time, for what is no part of the gradient


@dataclass(frozen=True, slots=True)
class Group:
    """What a model has drawn after a prompt, and what each text is worth.

    parts: the rewards of each text by their labels. advantages: (texts,), of each text against the others.
    drawn: texts that were drawn until these were kept.
    """

    id: str
    prompt: tuple[int, ...]
    texts: tuple[str, ...]
    completions: tuple[tuple[int, ...], ...]
    ended: tuple[bool, ...]
    parts: tuple[Mapping[str, float], ...]
    rewards: tuple[float, ...]
    advantages: tuple[float, ...]
    apart: bool
    drawn: int

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and all texts."""
        return len(self.prompt) + sum(map(len, self.completions))

    def after(self, drawn: int) -> "Group":
        """Return the group as one that knows of the texts that were drawn before it."""
        return replace(self, drawn=drawn + len(self.texts))

    @property
    def is_flat(self) -> bool:
        """Whether its texts are all worth the same."""
        return max(self.rewards) - min(self.rewards) < FLAT


def advantages(rewards: Sequence[float], kind: Advantage) -> list[float]:
    """Return what each text of a group of two or more gains on the others; their sum is 0.

    grpo: (R - mean) / (deviation + 1e-4); dr_grpo: R - mean; rloo: R - mean of the others.
    """
    mean, count = fmean(rewards), len(rewards)
    if kind == "grpo":
        return [(reward - mean) / (deviation(rewards) + TINY) for reward in rewards]
    scale = count / (count - 1) if kind == "rloo" else 1.0  # R - (sum - R) / (count - 1), rearranged
    return [scale * (reward - mean) for reward in rewards]


def deviation(rewards: Sequence[float]) -> float:
    """Return the standard deviation of a group's rewards, by count - 1."""
    mean = fmean(rewards)
    return math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (tokens,): ln of each token's probability; in fp32, or in fp64 where the logits are.

    logits: (tokens, vocabulary). targets: (tokens,) ids.
    """
    return -functional.cross_entropy(_exact(logits), targets.to(logits.device), reduction="none")


@torch.no_grad()
def entropy(logits: Tensor) -> float:
    """Return the sum over tokens of the entropy of what could stand there, in nats; logits: (tokens, vocabulary)."""
    total = 0.0
    for part in torch.split(logits, ROWS):
        logps = _exact(part).log_softmax(dim=-1)
        total -= float((logps.exp() * logps).sum())
    return total


def _exact(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
