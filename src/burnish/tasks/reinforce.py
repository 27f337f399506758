"""Reinforcement: a model writes, rewards say how good that is, and what was better than the rest becomes likelier."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from burnish.errors import ModelError, RecipeError
from burnish.losses.clipped import Clipped, k3
from burnish.metrics import Metric
from burnish.models.completions import (
    CompletionBatch,
    collate_branches,
    collate_branches_apart,
    completion_logits,
    is_apart,
)
from burnish.models.decode import Sampling, answers_to, read_back, sample
from burnish.models.dropout import drops
from burnish.models.load import load_writer
from burnish.models.packing import micro_batches
from burnish.models.policy import Advantage, Group, advantages, deviation, entropy, token_logps
from burnish.models.render import prompt_ids
from burnish.models.save import save_network
from burnish.models.segments import is_packed
from burnish.models.start import at_start, remember_start
from burnish.records import Prompt, Record, raise_faults
from burnish.retrievers import Progress
from burnish.rewards import Jury, Reward, Written
from burnish.tasks import Built, Encoded, Facts, Sampler, Task, refuse_predictions
from burnish.text import fingerprint


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt, tokenized, and the row that it is of."""

    id: str
    prompt: tuple[int, ...]
    row: Prompt

    @property
    def tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt)


@dataclass(slots=True)
class GroupBatch:
    """Groups in one batch; what a pass finds out is noted in it, each (trained tokens,).

    advantages: of the text that the token is in. old, start: ln of its probability by the model that drew it, and
    before any training. entropy, kl: sums of the last update. clipped: tokens without gradient in it.
    """

    completions: CompletionBatch
    advantages: Tensor
    old: Tensor | None = None
    start: Tensor | None = None
    entropy: float = 0.0
    kl: float = 0.0
    clipped: int = 0


class Reinforce(Task):
    """Reinforcement from rewards (RLVR, RLHF): any model that writes, prompts alone, no value network.

    Of each prompt of a step the model draws `samples` texts, at temperature 1 and from all tokens, so that what is
    trained is what drew them. The advantage of a text is its reward against those of its group:
      grpo     (R - mean) / (deviation + 1e-4), per token (Shao et al. 2024, arXiv 2402.03300), the sum over all tokens
               of the step divided by their number (DAPO, Yu et al. 2025, arXiv 2503.14476)
      dr_grpo  R - mean, the sum divided by samples · max_new_tokens, so that long texts weigh more (Liu et
               al. 2025, arXiv 2503.20783)
      rloo     R - mean of the other texts, summed over a text's tokens, the mean over texts (Ahmadian et al. 2024,
               arXiv 2402.14740); the pull to the start is in the loss here too, not in the reward

    A group whose texts are all worth the same teaches nothing: `replace` times it makes way for another prompt's, drawn
    from all rows; what is flat even then stays, and is counted. updates: how often the weights move by the same texts;
    from the second on the ratio is not 1, and is clipped.
    """

    record: ClassVar[type[Record]] = Prompt

    rewards: tuple[Reward, ...] = Field(min_length=1)
    samples: int = Field(default=8, ge=2)
    advantage: Advantage = "grpo"
    loss: Clipped = Clipped()
    updates: int = Field(default=1, ge=1)
    replace: int = Field(default=1, ge=0)
    metrics: tuple[Metric, ...] = Field(default_factory=lambda: (Metric.read("exact_match"),))
    max_tokens: int = 1024  # of a prompt with its answer; a longer prompt is left out, and counted
    max_new_tokens: int = Field(default=128, ge=1)  # of a text; one that is longer is cut there, and judged as it is

    @field_validator("rewards")
    @classmethod
    def _labels_differ(cls, rewards: tuple[Reward, ...]) -> tuple[Reward, ...]:
        """Check that logs can tell the rewards apart.

        Raises:
            RecipeError: two have the same label.
        """
        labels = [reward.label for reward in rewards]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise RecipeError(f"two rewards are called {twice!r}; give one of them another `name`, or leave one out")
        return rewards

    @model_validator(mode="after")
    def _has_room_for_a_prompt(self) -> "Reinforce":
        """Check that a prompt fits before its answer.

        Raises:
            RecipeError: the answer takes all tokens.
        """
        if self.max_new_tokens >= self.max_tokens:
            raise RecipeError(
                f"max_new_tokens is {self.max_new_tokens} of {self.max_tokens} tokens: no prompt has room"
            )
        return self

    @property
    def updates_a_step(self) -> int:
        """How often the weights are moved by the same texts."""
        return self.updates

    def begin(self, model: nn.Module) -> Sequence[Tensor]:
        """Remember the start, where the loss pulls towards it.

        Raises:
            ModelError: the model is compared with itself, and drops something at random.
        """
        if self.updates > 1 and drops(model):
            raise ModelError(
                f"task.updates is {self.updates}: probabilities are compared with those of the first update, and "
                "dropout would change them by chance; set training.dropout to 0"
            )
        if self.loss.kl:
            remember_start(model)
        return ()

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the model with its tokenizer and chat template."""
        network, tokenizer = load_writer(model, dtype=torch.float32)
        return Built(network, tokenizer)

    def encode(self, rows: Sequence[Prompt], built: Built) -> Encoded:
        """Tokenize the prompts by the model's own template.

        Raises:
            DataError: rows have no answers or passages, and a reward reads them; or a prompt has no tokens.
        """
        needed = {"answers": [row.id for row in rows if not row.answers]}
        needed["passages"] = [row.id for row in rows if not row.passages]
        raise_faults(
            [
                f"row {row!r} has no {reward.reads}, and the reward {reward.label} reads them"
                for reward in self.rewards
                for row in needed.get(reward.reads, [])
            ]
        )
        prompts = prompt_ids([row.prompt for row in rows], built.tokenizer, apart=is_apart(built.model))
        raise_faults(
            [f"row {row.id!r}: the prompt has no tokens" for row, ids in zip(rows, prompts, strict=True) if not ids]
        )
        room = self.max_tokens - self.max_new_tokens
        items = [
            PromptItem(row.id, tuple(ids), row) for row, ids in zip(rows, prompts, strict=True) if len(ids) <= room
        ]
        too_long = len(rows) - len(items)
        return Encoded(items, {f"prompts of more than {room} tokens left out": too_long} if too_long else {})

    def sampler(self, model: nn.Module, built: Built, items: Sequence[PromptItem], *, seed: int) -> Sampler:
        """Return what draws a step's groups; the rewards are loaded here."""
        jury = _jury(self.rewards)

        def groups(step: int, rows: Sequence[int]) -> list[Group]:
            model.eval()
            asked = [(row, _key(step, row, row, 0)) for row in rows]
            kept = self._groups(model, built, jury, [items[row] for row, _ in asked], [key for _, key in asked], seed)
            for turn in range(1, self.replace + 1):
                flat = [place for place, group in enumerate(kept) if group.is_flat]
                others = [(place, _other(len(items), seed, step, rows[place], turn)) for place in flat]
                keys = [_key(step, rows[place], row, turn) for place, row in others]
                found = self._groups(model, built, jury, [items[row] for _, row in others], keys, seed)
                for (place, _), group in zip(others, found, strict=True):
                    kept[place] = (kept[place] if group.is_flat else group).after(kept[place].drawn)
            return kept

        return groups

    def _groups(
        self, model: nn.Module, built: Built, jury: Jury, items: Sequence[PromptItem], keys: Sequence[int], seed: int
    ) -> list[Group]:
        """Draw the texts of these prompts and judge them."""
        tokenizer = built.tokenizer
        drawn = sample(
            model,
            [item.prompt for item in items],
            keys=keys,
            count=self.samples,
            sampling=Sampling(seed),
            end=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            max_new_tokens=self.max_new_tokens,
        )
        texts = read_back(tokenizer, [one.tokens for found in drawn for one in found])
        rows = [item.row for item in items for _ in range(self.samples)]
        parts = jury([_written(row, text) for row, text in zip(rows, texts, strict=True)])
        found = []
        for number, (item, group) in enumerate(zip(items, drawn, strict=True)):
            mine = slice(number * self.samples, (number + 1) * self.samples)
            rewards = [jury.total(one) for one in parts[mine]]
            found.append(
                Group(
                    id=item.id,
                    prompt=item.prompt,
                    texts=tuple(texts[mine]),
                    completions=tuple(one.tokens for one in group),
                    ended=tuple(one.ended for one in group),
                    parts=tuple(parts[mine]),
                    rewards=tuple(rewards),
                    advantages=tuple(advantages(rewards, self.advantage)),
                    apart=is_apart(built.model),
                    drawn=self.samples,
                )
            )
        return found

    def collate(self, items: Sequence[Group]) -> GroupBatch:
        """Put the groups into one row in which each prompt stands once, or into an encoder's and a decoder's."""
        rows = [(group.prompt, group.completions) for group in items]
        batch = collate_branches_apart(rows) if items[0].apart else collate_branches(rows)
        each = torch.tensor([gain for group in items for gain in group.advantages], dtype=torch.float64)
        return GroupBatch(batch, each.repeat_interleave(torch.tensor(batch.lengths)))

    def micro_batches(
        self, model: nn.Module, rows: Sequence[int], tokens: Sequence[int], *, budget: int
    ) -> list[list[int]]:
        """Cut a step's groups into those that are read at once; one that is too long stands alone, whole."""
        if is_packed(model):
            return micro_batches(rows, tokens, budget=budget, padded=False)
        repeated = [count * self.samples for count in tokens]  # each text is read behind a prompt of its own
        return micro_batches(rows, repeated, budget=budget)

    def count(self, batch: GroupBatch) -> int:
        """Count what the sum is divided by: tokens that are trained, texts (rloo), or possible tokens (dr_grpo)."""
        texts = len(batch.completions.lengths)
        return {"grpo": len(batch.advantages), "rloo": texts, "dr_grpo": texts * self.max_new_tokens}[self.advantage]

    def total_loss(self, model: nn.Module, batch: GroupBatch) -> Tensor:
        """Return the loss summed over the trained tokens; the LM head sees their positions alone."""
        if self.loss.kl and batch.start is None:
            with at_start(model) as start:
                batch.start = token_logps(completion_logits(start, batch.completions), batch.completions.targets)
        logits = completion_logits(model, batch.completions)
        logps = token_logps(logits, batch.completions.targets)
        seen, weights = logps.detach(), batch.advantages.to(logps)
        batch.old = seen if batch.old is None else batch.old
        batch.clipped = int(self.loss.is_clipped(seen, batch.old, weights).sum())
        batch.entropy = entropy(logits.detach())
        batch.kl = 0.0 if batch.start is None else float(k3(seen, batch.start).sum())
        return self.loss(logps, batch.old, weights, batch.start)

    def facts(self, items: Sequence[Group], batches: Sequence[GroupBatch]) -> Facts:
        """Return means of the step: over texts, over groups (spread, flat), and over tokens of the last update."""
        texts, tokens = self.samples * len(items), sum(len(batch.advantages) for batch in batches)
        rewards = [reward for group in items for reward in group.rewards]
        found: dict[str, tuple[float, float]] = {"reward": (math.fsum(rewards), texts)}
        for reward in self.rewards:
            values = [part[reward.label] for group in items for part in group.parts]
            found[f"reward/{reward.label}"] = (math.fsum(values), texts)
        found["spread"] = (math.fsum(deviation(group.rewards) for group in items), len(items))
        if self.loss.kl:
            found["kl"] = (math.fsum(batch.kl for batch in batches), tokens)
        return found | {
            "entropy": (math.fsum(batch.entropy for batch in batches), tokens),
            "length": (sum(len(one) for group in items for one in group.completions), texts),
            "cut": (texts - sum(sum(group.ended) for group in items), texts),
            "clipped": (sum(batch.clipped for batch in batches), tokens),
            "flat": (sum(group.is_flat for group in items), len(items)),
            "drawn": (sum(group.drawn for group in items), texts),
        }

    def shown(self, items: Sequence[Group]) -> Sequence[Mapping[str, object]]:
        """Return the texts of the step's first group."""
        return [
            {"id": group.id, "text": text, "reward": reward, "parts": dict(parts), "advantage": advantage}
            for group in items[:1]
            for text, reward, parts, advantage in zip(
                group.texts, group.rewards, group.parts, group.advantages, strict=True
            )
        ]

    def audit(self, items: Sequence[PromptItem], built: Built) -> list[str]:
        """Show how three prompts end, and the rewards that judge what is written after them."""
        decode = built.tokenizer.decode
        weights = ", ".join(f"{reward.weight:g} · {reward.label}" for reward in self.rewards)
        ends = [f"…{decode(item.prompt[-12:])!r} ⟶ {self.samples} texts are drawn" for item in items[:3]]
        return [*ends, f"reward: {weights}"]

    @property
    def dev_label(self) -> str:
        """The reward of the likeliest texts."""
        return "reward"

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Prompt]) -> float:
        """Return the mean reward of the likeliest text of each row."""
        texts = self._answers(model, built, rows, progress=lambda *_: None)
        jury = _jury(self.rewards)
        parts = jury([_written(row, text) for row, text in zip(rows, texts, strict=True)])
        return math.fsum(jury.total(one) for one in parts) / len(rows)

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Prompt], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return the likeliest text after each prompt."""
        if reads != "answers":
            refuse_predictions(self, reads)
        return self._answers(model, built, rows, progress=progress)

    def references(self, rows: Sequence[Prompt]) -> list[Any]:
        """Return the right answers of each row."""
        return [row.answers for row in rows]

    def _answers(self, model: nn.Module, built: Built, rows: Sequence[Prompt], *, progress: Progress) -> list[str]:
        return answers_to(
            model,
            built.tokenizer,
            [row.prompt for row in rows],
            max_new_tokens=self.max_new_tokens,
            done=lambda done: progress("answering", done, len(rows)),
        )

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write the model, or the adapter, with its tokenizer."""
        save_network(model, built.tokenizer, folder)


@lru_cache(maxsize=1)
def _jury(rewards: tuple[Reward, ...]) -> Jury:
    """Return the rewards, loaded once for drawing and for dev scores."""
    return Jury(rewards)


def _written(row: Prompt, text: str) -> Written:
    return Written(row.id, row.prompt, text, row.answers, row.passages)


def _key(step: int, place: int, row: int, turn: int) -> int:
    """Return what names a prompt to the draws: one that is drawn for twice in a step has other texts each time."""
    return int(fingerprint(f"{step} {place} {row} {turn}"), 16)


def _other(rows: int, seed: int, step: int, row: int, turn: int) -> int:
    """Return another of the rows by chance; the same one where there is no other."""
    if rows == 1:
        return row
    found = int(np.random.Generator(np.random.PCG64([seed, step, row, turn, 5])).integers(rows - 1))
    return found + (found >= row)
