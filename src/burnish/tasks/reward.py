"""Reward: a model learns from preferences to tell how good an answer is, as a number."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.errors import DataError
from burnish.losses.bradley_terry import BradleyTerry
from burnish.metrics import Metric
from burnish.models.load import load_regressor
from burnish.models.reward import conversation_ids, outputs, scores
from burnish.models.save import save_network
from burnish.preference_rows import Preference
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Facts, Task, refuse_predictions


@dataclass(frozen=True, slots=True)
class RewardItem:
    """The two conversations of a preference, tokenized, and by how much the first should win."""

    id: str
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    margin: float

    @property
    def tokens(self) -> int:
        """Tokens of both, as long as the longer one."""
        return 2 * max(len(self.chosen), len(self.rejected))


@dataclass(slots=True)
class RewardBatch:
    """Conversations, those with the preferred answers first; told: what the last pass found."""

    rows: list[tuple[int, ...]]
    margins: Tensor
    told: dict[str, tuple[float, float]] = field(default_factory=dict)


class Reward(Task):
    """Reward model (Bradley–Terry), from a head of one output on any kind of network.

    It reads the whole conversation, as the chat template writes it. `models.reward.load_reward` scores with what is
    saved, and so does transformers' AutoModelForSequenceClassification. A margin in the rows is one in the loss.
    """

    record: ClassVar[type[Record]] = Preference

    loss: BradleyTerry = BradleyTerry()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("preference_accuracy", "reward_margin"))), min_length=1
    )
    max_tokens: int = Field(default=1024, ge=4)  # of the longer conversation; a longer row is left out, and counted

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a head of one output, new or trained before."""
        found = load_regressor(model, dtype=torch.float32, seed=seed, what="a reward model")
        return Built(found.model, found.tokenizer, fresh=found.fresh)

    def encode(self, rows: Sequence[Preference], built: Built) -> Encoded:
        """Tokenize both conversations of each row."""
        prompts = [row.prompt for row in rows]
        chosen = conversation_ids(prompts, [row.chosen for row in rows], built.tokenizer)
        rejected = conversation_ids(prompts, [row.rejected for row in rows], built.tokenizer)
        found = [
            RewardItem(row.id, tuple(better), tuple(worse), row.margin or 0.0)
            for row, better, worse in zip(rows, chosen, rejected, strict=True)
        ]
        kept = [item for item in found if item.tokens <= 2 * self.max_tokens]
        items = [item for item in kept if item.chosen != item.rejected]
        notes = {
            f"rows of more than {self.max_tokens} tokens left out": len(found) - len(kept),
            "rows whose two answers read the same left out": len(kept) - len(items),
            "rows that stand twice": len(items) - len({(item.chosen, item.rejected) for item in items}),
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[RewardItem]) -> RewardBatch:
        """List the better conversations, and then the worse ones."""
        rows = [*(item.chosen for item in items), *(item.rejected for item in items)]
        return RewardBatch(rows, torch.tensor([item.margin for item in items]))

    def count(self, batch: RewardBatch) -> int:
        """Count the rows."""
        return len(batch.margins)

    def total_loss(self, model: nn.Module, batch: RewardBatch) -> Tensor:
        """Return the loss summed over the rows."""
        chosen, rejected = outputs(model, batch.rows).chunk(2)
        gaps, rows = (chosen - rejected).detach(), float(len(chosen))
        batch.told = {
            "margin": (float(gaps.sum()), rows),
            "accuracy": (float((gaps > 0).sum()), rows),
        }
        return self.loss(chosen, rejected, batch.margins.to(chosen.device))

    def facts(self, items: Sequence[RewardItem], batches: Sequence[RewardBatch]) -> Facts:  # noqa: ARG002
        """Return margin and accuracy of the step's rows, as the pass found them before the weights moved."""
        told = {name: [batch.told[name] for batch in batches] for name in ("margin", "accuracy")}
        return {name: (sum(part for part, _ in parts), sum(of for _, of in parts)) for name, parts in told.items()}

    def audit(self, items: Sequence[RewardItem], built: Built) -> list[str]:
        """Show the ends of both conversations of two rows."""
        decode = built.tokenizer.decode
        return [
            f"{name}: …{decode(ids[-24:])!r}"
            for item in items[:2]
            for name, ids in (("chosen", item.chosen), ("rejected", item.rejected))
        ]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Preference], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return by how much the score of each row's preferred answer is above that of the other.

        Raises:
            DataError: another kind is asked for, or a row cannot be read.
        """
        if reads != "margins":
            refuse_predictions(self, reads)
        encoded = self.encode(rows, built)
        if len(encoded.items) < len(rows):
            left_out = ", ".join(f"{reason}: {count}" for reason, count in encoded.notes.items())
            raise DataError(f"not every row has a margin ({left_out}); raise task.max_tokens, or leave such rows out")
        progress("scoring", 0, 1)
        return _margins(model, encoded.items)

    def references(self, rows: Sequence[Preference]) -> list[Any]:
        """Return which answer each row prefers."""
        return [row.chosen for row in rows]

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Preference]) -> float:
        """Score the rows that are not left out.

        Raises:
            DataError: all are.
        """
        kept = {item.id for item in self.encode(rows, built).items}
        if not kept:
            raise DataError(f"no dev row is left of {len(rows)}: all have more than {self.max_tokens} tokens")
        return super().dev_score(model, built, [row for row in rows if row.id in kept])

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        save_network(model, built.tokenizer, folder)


def _margins(model: nn.Module, items: Sequence[RewardItem]) -> list[Any]:
    found = scores(model, [*(item.chosen for item in items), *(item.rejected for item in items)])
    return [better - worse for better, worse in zip(found[: len(items)], found[len(items) :], strict=True)]
