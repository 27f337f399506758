"""What a step of joint training is made of: questions, the passages found for each, and what is read of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from burnish.models.answers_apart import Row
from burnish.records import Question

Told = dict[str, tuple[float, int]]  # by name, a sum over questions, and over how many


@dataclass(frozen=True, slots=True)
class RagItem:
    """A question, tokenized for the retriever, and its answers; gold: ids of its right passages, if any is known."""

    id: str
    row: Question
    query: tuple[int, ...]
    tokens: int  # before anything is retrieved: those of the query


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A question with the passages that the retriever finds at this step, best first.

    places, ids: of the passages. right: places of the right ones, if any is known; beside: of those that were not
    found, where the loss asks for them. scored: prompts with the answer, whose likelihood the loss reads, or the one in
    which it looks at attention, to the passages' spans. shown: prompts with the answer that the generator learns.
    start: (passages,) scores of the same passages by the retriever as it began. signal: what the generator says of
    them, where no gradient is to reach it: (passages, tokens) ln probabilities, or (passages,).
    """

    item: RagItem
    places: tuple[int, ...]
    ids: tuple[str, ...]
    right: frozenset[int]
    beside: tuple[int, ...]
    scored: tuple[Row, ...]
    shown: tuple[Row, ...]
    start: Tensor
    signal: Tensor | None = None
    spans: tuple[range, ...] = ()

    @property
    def id(self) -> str:
        """The question's."""
        return self.item.id

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return sum(len(prompt) + len(answer) for prompt, answer in (*self.scored, *self.shown))


@dataclass(slots=True)
class RagBatch:
    """Questions with their passages, and what the step's log tells of them once the loss is computed."""

    found: Sequence[Retrieved]
    told: Told


def learns(network: nn.Module) -> bool:
    """Tell whether any of the network's weights gets a gradient in this step."""
    return any(weight.requires_grad for weight in network.parameters())


def padded(signals: Sequence[Tensor]) -> Tensor:
    """Return (questions, …) of tensors whose sizes differ, with 0 behind what each has."""
    sizes = [max(signal.shape[axis] for signal in signals) for axis in range(signals[0].ndim)]
    rows = []
    for signal in signals:
        behind = [room for axis in reversed(range(signal.ndim)) for room in (0, sizes[axis] - signal.shape[axis])]
        rows.append(nn.functional.pad(signal, behind))
    return torch.stack(rows)
