"""Classification: one label for each text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.errors import near_miss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.metrics import Metric
from burnish.models.load import load_classifier
from burnish.models.packing import micro_batches
from burnish.models.quiet import quiet
from burnish.records import Labelled, Record, raise_faults
from burnish.tasks import Built, Encoded, Task

PASS_TOKENS = 8192  # padded tokens in one forward pass where no gradient is needed


@dataclass(frozen=True, slots=True)
class ClassifyItem:
    """A tokenized text and the number of its label."""

    id: str
    text: tuple[int, ...]
    label: int

    @property
    def tokens(self) -> int:
        """Tokens of the text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class ClassifyBatch:
    """Texts padded on the right, and their labels' numbers."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class Classify(Task):
    """Single-label classification with a new head; class names are saved in the model's config."""

    record: ClassVar[type[Record]] = Labelled

    labels: tuple[str, ...] = Field(min_length=2)
    loss: CrossEntropy = CrossEntropy()
    metric: Metric = Field(default_factory=lambda: Metric.read("accuracy"))  # of the dev rows
    max_tokens: int = Field(default=256, ge=4)  # what is longer is cut at the end, and counted

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a new head of as many outputs as there are labels."""
        found = load_classifier(model, self.labels, dtype=torch.float32, seed=seed)
        return Built(found.model, found.tokenizer, fresh=found.fresh)

    def encode(self, rows: Sequence[Labelled], built: Built) -> Encoded:
        """Tokenize the texts; a label that the recipe does not list is an error that names each such row."""
        raise_faults(
            [
                f"row {row.id!r}: label {row.label!r} is not in the recipe's task.labels "
                f"[{', '.join(self.labels[:10])}{', …' if len(self.labels) > 10 else ''}]."
                f"{near_miss(row.label, self.labels)}"
                for row in rows
                if row.label not in self.labels
            ]
        )
        number = {label: place for place, label in enumerate(self.labels)}
        ids = built.tokenizer([row.text for row in rows], truncation=True, max_length=self.max_tokens)["input_ids"]
        items = [ClassifyItem(row.id, tuple(text), number[row.label]) for row, text in zip(rows, ids, strict=True)]
        cut = sum(item.tokens == self.max_tokens for item in items)
        return Encoded(items, {f"texts that fill all {self.max_tokens} tokens": cut} if cut else {})

    def collate(self, items: Sequence[ClassifyItem]) -> ClassifyBatch:
        """Pad on the right."""
        width = max(item.tokens for item in items)
        input_ids = torch.zeros(len(items), width, dtype=torch.long)
        mask = torch.zeros(len(items), width, dtype=torch.long)
        for row, item in enumerate(items):
            input_ids[row, : item.tokens] = torch.tensor(item.text)
            mask[row, : item.tokens] = 1
        return ClassifyBatch(input_ids, mask, torch.tensor([item.label for item in items]))

    def count(self, batch: ClassifyBatch) -> int:
        """Count the texts."""
        return len(batch.labels)

    def total_loss(self, model: nn.Module, batch: ClassifyBatch) -> Tensor:
        """Return the cross-entropy summed over the texts."""
        return self.loss(self._logits(model, batch), batch.labels.to(next(model.parameters()).device))

    def predict(self, model: nn.Module, items: Sequence[ClassifyItem]) -> list[str]:
        """Return the likeliest label of each item, in the order given."""
        groups = micro_batches(range(len(items)), [item.tokens for item in items], budget=PASS_TOKENS)
        found = [""] * len(items)
        with torch.no_grad():
            for group in groups:
                chosen = self._logits(model, self.collate([items[row] for row in group])).argmax(dim=1).tolist()
                for row, label in zip(group, chosen, strict=True):
                    found[row] = self.labels[label]
        return found

    def audit(self, items: Sequence[ClassifyItem], built: Built) -> list[str]:
        """Show three texts with their labels."""
        return [f"{built.tokenizer.decode(item.text)} → {self.labels[item.label]}" for item in items[:3]]

    @property
    def dev_label(self) -> str:
        """The metric's name."""
        return self.metric.label

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Labelled]) -> float:
        """Return the mean of the metric over the rows."""
        scores = self.metric.score(self.predict(model, self.encode(rows, built).items), [row.label for row in rows])
        return sum(scores) / len(scores)

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        network: Any = model
        with quiet():
            network.save_pretrained(folder)
            built.tokenizer.save_pretrained(folder)

    @staticmethod
    def _logits(model: nn.Module, batch: ClassifyBatch) -> Tensor:
        device = next(model.parameters()).device
        network: Any = model
        logits: Tensor = network(
            input_ids=batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device)
        ).logits
        return logits
