"""Answers to prompts as numbers: a network with a head of one output reads the whole conversation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import DataError
from burnish.models.load import load_regressor
from burnish.models.packing import micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.render import Prompt
from burnish.models.token_ids import bare_ids, framed_ids

PASS_TOKENS = 8192  # padded tokens in one pass without gradient


class RewardModel:
    """A network that tells how good an answer is: a number on a scale of its own, higher is better."""

    def __init__(self, network: nn.Module, tokenizer: Any) -> None:
        """Take the network and its tokenizer."""
        self.network = network
        self.tokenizer = tokenizer

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return a score for each answer to the prompt of the same place.

        Raises:
            DataError: a conversation is longer than the network reads.
        """
        rows = conversation_ids(prompts, answers, self.tokenizer)
        longest = longest_input(self.network, self.tokenizer)
        for place, row in enumerate(rows, start=1):
            if len(row) > longest:
                raise DataError(
                    f"conversation {place} of {len(rows)} has {len(row)} tokens, and the reward model reads {longest}"
                )
        return scores(self.network, rows)


def load_reward(name: str, *, dtype: torch.dtype = torch.float32) -> RewardModel:
    """Return the reward model that stands in a folder, ready to score.

    Raises:
        ModelError: it cannot be found, is damaged, or has no head of one output.
    """
    found = load_regressor(name, dtype=dtype, seed=0, what="a reward model")
    found.model.eval()
    return RewardModel(found.model, found.tokenizer)


def conversation_ids(prompts: Sequence[Prompt], answers: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return the token ids of each conversation that an answer ends.

    By the tokenizer's chat template, a text as the user's message; without a template, the messages and the answer one
    below the other, between the tokens that begin and end a text.
    """
    if not tokenizer.chat_template:
        plain = ["\n\n".join([*_contents(prompt), answer]) for prompt, answer in zip(prompts, answers, strict=True)]
        return [*framed_ids(plain, tokenizer)]
    texts: list[str] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = (
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [one.model_dump() for one in prompt]
        )
        told = [*asked, {"role": "assistant", "content": answer}]
        texts.append(tokenizer.apply_chat_template(told, tokenize=False))
    return [*bare_ids(texts, tokenizer)]


def outputs(model: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return (rows,) scores in fp32, from one pass over rows that are padded together."""
    logits: Tensor = model(**network_inputs(model, *pad_right(rows))).logits
    return logits[:, 0].float()


@torch.no_grad()
def scores(model: nn.Module, rows: Sequence[Sequence[int]]) -> list[float]:
    """Return the score of each row of token ids, in the order given."""
    found = [0.0] * len(rows)
    for group in micro_batches(range(len(rows)), [len(row) for row in rows], budget=PASS_TOKENS):
        for place, score in zip(group, outputs(model, [rows[row] for row in group]).tolist(), strict=True):
            found[place] = score
    return found


def _contents(prompt: Prompt) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
