"""Classification: one label for each text, or any number of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import DataError, ModelError, RecipeError, near_miss
from burnish.losses import Loss
from burnish.losses.binary import Binary
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.focal import Focal
from burnish.metrics import Guess, Metric
from burnish.models.detector import marked
from burnish.models.divergence import binary_divergence, divergence
from burnish.models.load import Problem, load_classifier
from burnish.models.packing import micro_batches
from burnish.models.padding import network_inputs, pad_right
from burnish.models.save import save_network
from burnish.models.start import at_start, remember_start
from burnish.models.token_ids import cut_ids
from burnish.prepare.balance import labels_to_learn
from burnish.records import Labelled, Record, raise_faults
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

Label: TypeAlias = str | tuple[str, ...]  # one label, or all of a text's labels in the recipe's order

PASS_TOKENS = 8192  # padded tokens in one forward pass where no gradient is needed
THRESHOLD = 0.5  # from which probability on a label is given, where there may be many


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows were encoded together, and how many of them have each label."""

    rows: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassifyItem:
    """A tokenized text or pair, the numbers of its labels, and the counts of the rows it came with.

    types: 1 on the tokens of the second text, where the model tells the two apart by this; else empty.
    """

    id: str
    text: tuple[int, ...]
    types: tuple[int, ...]
    labels: tuple[int, ...]
    counts: Counts

    @property
    def tokens(self) -> int:
        """Tokens of the text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class ClassifyBatch:
    """Texts or pairs padded on the right, and their labels; weights and prior, (labels,), where the loss asks for them.

    labels: (texts,), their numbers; or (texts, labels), 1 where the text has the label.
    """

    input_ids: Tensor
    attention_mask: Tensor
    types: Tensor | None
    labels: Tensor
    weights: Tensor | None
    prior: Tensor | None


def _metrics(*, many: bool) -> tuple[Metric, ...]:
    """Return what is reported where the recipe does not say."""
    averages = ("micro", "macro")
    f1 = [Metric.read({"kind": "f1", "average": average}) for average in averages]
    return tuple(f1) if many else (Metric.read("accuracy"), f1[1])


class Classify(Task):
    """Classification with a new head, single-label or multi-label; class names are saved in the model's config.

    r_drop: α of R-Drop (Liang et al. 2021, arXiv 2106.14448). Each text is read twice, with dropout, and its loss is
    ½·(L₁ + L₂) + α·½·(KL(P₁‖P₂) + KL(P₂‖P₁)); the paper adds L₁ and L₂, so that its α is twice this one.
    kl_start: β of a pull to what a trained head said before, against forgetting: + β·KL(P_start‖P) a text (as in
    learning without forgetting, Li & Hoiem 2016, arXiv 1606.09282, at temperature 1).
    With `many` each label is a distribution of its own, yes or no; their divergences are averaged, as the loss is.
    """

    record: ClassVar[type[Record]] = Labelled

    labels: tuple[str, ...] = ()  # none: those of the training rows, in alphabetical order
    many: bool = False  # a text has any number of the labels, each a question of its own
    loss: Loss = Field(default_factory=lambda data: Binary() if data.get("many") else CrossEntropy())
    metrics: tuple[Metric, ...] = Field(default_factory=lambda: _metrics(many=False), min_length=1)
    max_tokens: int = Field(default=256, ge=4)  # what is longer is cut at the end, and counted
    mark_new: str = ""  # put before each word of a pair's second text that the first lacks, as `*`: see models.detector
    r_drop: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    kl_start: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _measured_as_fits(cls, value: Any) -> Any:
        """Choose metrics for several labels a text, where the recipe names none."""
        if isinstance(value, dict) and value.get("many") is True and "metrics" not in value:
            return {**value, "metrics": _metrics(many=True)}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Classify":
        """Check what the fields cannot check alone.

        Raises:
            RecipeError: a label stands twice, the loss is for another kind of labels, or its weights are too many.
        """
        twice = [label for place, label in enumerate(self.labels) if label in self.labels[:place]]
        if twice:
            raise RecipeError(f"label {twice[0]!r} stands twice in labels")
        allowed = (Binary,) if self.many else (CrossEntropy, Focal)
        if not isinstance(self.loss, allowed):
            names = " or ".join("cross_entropy" if loss is CrossEntropy else loss.__name__.lower() for loss in allowed)
            raise RecipeError(f"with `many: {str(self.many).lower()}` the loss is {names}, not {self.loss.kind}")
        asked = self._asked_weights
        if len(self.labels) == 1:
            raise RecipeError("one label is nothing to tell apart; give at least two, or none for those of the rows")
        if not isinstance(asked, str) and self.labels and len(asked) != len(self.labels):
            raise RecipeError(f"the loss has {len(asked)} weights, and there are {len(self.labels)} labels")
        return self

    def settled(self, rows: Sequence[Labelled]) -> "Classify":
        """Return the task with the labels of the rows, where the recipe lists none.

        Raises:
            DataError: the rows have fewer than two.
        """
        if self.labels:
            return self
        return Classify.model_validate({**self.model_dump(), "labels": labels_to_learn(rows)})

    def begin(self, model: nn.Module) -> Sequence[Tensor]:
        """Remember the start, where the loss pulls towards it."""
        if self.kl_start:
            remember_start(model)
        return ()

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a new head of as many outputs as there are labels.

        Raises:
            ModelError: the head is new, and `kl_start` would hold it to what it says untrained.
        """
        problem: Problem = "multi_label_classification" if self.many else "single_label_classification"
        found = load_classifier(model, self.labels, dtype=torch.float32, seed=seed, problem=problem)
        if self.kl_start and found.fresh:
            raise ModelError(
                f"{model}: kl_start keeps what a trained head says, and for these labels the head is new; leave it "
                "out, or go on from a model that was trained for them"
            )
        return Built(found.model, found.tokenizer, fresh=found.fresh)

    def encode(self, rows: Sequence[Labelled], built: Built) -> Encoded:
        """Tokenize the texts; a label that the recipe does not list is an error that names each such row."""
        raise_faults([fault for row in rows for fault in self._faults(row)] or _lone(rows))
        number = {label: place for place, label in enumerate(self.labels)}
        found = [tuple(number[label] for label in self._ordered(row)) for row in rows]
        counts = Counts(len(rows), tuple(sum(place in labels for labels in found) for place in range(len(self.labels))))
        pairs = [marked(row.text, row.pair, self.mark_new) for row in rows if row.pair is not None]
        texts = [
            *cut_ids([row.text for row in rows], built.tokenizer, seconds=pairs or None, max_tokens=self.max_tokens)
        ]
        typed = any(any(text.types) for text in texts)
        items = [
            ClassifyItem(row.id, tuple(text.ids), tuple(text.types) if typed else (), labels, counts)
            for row, text, labels in zip(rows, texts, found, strict=True)
        ]
        cut = sum(item.tokens == self.max_tokens for item in items)
        return Encoded(items, {f"texts that fill all {self.max_tokens} tokens": cut} if cut else {})

    def joined(self, ours: Sequence[ClassifyItem], rehearsed: Sequence[ClassifyItem]) -> list[ClassifyItem]:
        """Return all items with the counts of all rows: weights and prior are the same in every batch."""
        if not ours or not rehearsed:
            return [*ours, *rehearsed]
        one, other = ours[0].counts, rehearsed[0].counts
        labels = tuple(a + b for a, b in zip(one.labels, other.labels, strict=True))
        counts = Counts(one.rows + other.rows, labels)
        return [replace(item, counts=counts) for item in (*ours, *rehearsed)]

    def collate(self, items: Sequence[ClassifyItem]) -> ClassifyBatch:
        """Pad on the right."""
        input_ids, mask = pad_right([item.text for item in items])
        types = pad_right([item.types for item in items])[0] if items[0].types else None
        counts = items[0].counts
        labels = torch.tensor([item.labels[0] for item in items]) if not self.many else self._indicators(items)
        return ClassifyBatch(input_ids, mask, types, labels, self._weights(counts), self._prior(counts))

    def count(self, batch: ClassifyBatch) -> int:
        """Count the texts."""
        return len(batch.labels)

    def total_loss(self, model: nn.Module, batch: ClassifyBatch) -> Tensor:
        """Return the loss summed over the texts, whatever their weights.

        Raises:
            ModelError: with `r_drop` both readings are the same while training.
        """
        before = None
        if self.kl_start:
            with at_start(model) as start:
                before = self._logits(start, batch)
        first = self._logits(model, batch)
        if not self.r_drop:
            return self._held(first, before, batch)
        second = self._logits(model, batch)
        if model.training and torch.equal(first, second):
            raise ModelError(
                f"r_drop compares two readings that dropout makes different, and {type(model).__name__} drops nothing; "
                "set training.dropout, or leave r_drop out"
            )
        gap = self._apart(first, second) + self._apart(second, first)
        return (self._held(first, before, batch) + self._held(second, before, batch) + self.r_drop * gap) / 2

    def predict(self, model: nn.Module, items: Sequence[ClassifyItem]) -> list[Label]:
        """Return each item's likeliest label, or with `many` all labels of at least even odds, in the order given."""
        found: list[Label] = []
        for row in self.probabilities(model, items):
            given = tuple(label for label, probability in row.items() if probability >= THRESHOLD)
            found.append(given if self.many else max(row, key=lambda label: row[label]))
        return found

    def probabilities(self, model: nn.Module, items: Sequence[ClassifyItem]) -> list[dict[str, float]]:
        """Return every label's probability for each item, in the order given; with `many` each stands for itself."""
        groups = micro_batches(range(len(items)), [item.tokens for item in items], budget=PASS_TOKENS)
        found: list[dict[str, float]] = [{}] * len(items)
        with torch.no_grad():
            for group in groups:
                logits = self._logits(model, self.collate([items[row] for row in group])).float()
                shares = logits.sigmoid() if self.many else logits.softmax(dim=1)
                for row, values in zip(group, shares.tolist(), strict=True):
                    found[row] = dict(zip(self.labels, values, strict=True))
        return found

    def audit(self, items: Sequence[ClassifyItem], built: Built) -> list[str]:
        """Show three texts with their labels, and the weights and the prior if there are any.

        Raises:
            DataError: the loss weighs labels by their share of the rows, and one has none.
        """
        counts = items[0].counts
        weights, prior = self._weights(counts), self._prior(counts)
        absent = [label for label, rows in zip(self.labels, counts.labels, strict=True) if not rows]
        if absent and (self._asked_weights == "balanced" or prior is not None):
            raise DataError(
                f"no training row has the label {', '.join(map(repr, absent[:5]))}, and the loss ({self.loss.kind}) "
                "weighs labels by how frequent they are; take such labels out of task.labels, or give rows for them"
            )
        lines = [f"{built.tokenizer.decode(item.text)} → {self._shown(item)}" for item in items[:3]]
        for name, values in (("weights", weights), ("prior", prior)):
            if values is not None:
                pairs = zip(self.labels, values.tolist(), strict=True)
                lines.append(f"{name}: {', '.join(f'{label} {value:.3g}' for label, value in pairs)}")
        return lines

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Labelled], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return each row's label or labels, every label's probability (`shares`), or the likeliest with its own.

        Raises:
            DataError: another kind is asked for, or guesses of several labels.
        """
        progress("classifying", 0, 1)
        items = self.encode(rows, built).items
        if reads == "answers":
            return list(self.predict(model, items))
        if reads == "shares":
            return list(self.probabilities(model, items))
        if reads != "guesses" or self.many:
            refuse_predictions(self, reads)
        return [Guess(*max(row.items(), key=lambda entry: entry[1])) for row in self.probabilities(model, items)]

    def references(self, rows: Sequence[Labelled]) -> list[Label]:
        """Return each row's label, or with `many` its labels, in the form that `predict` has."""
        return [self._ordered(row) if self.many else self._ordered(row)[0] for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        save_network(model, built.tokenizer, folder)

    def _held(self, logits: Tensor, before: Tensor | None, batch: ClassifyBatch) -> Tensor:
        """Return the loss of one reading, summed over the texts, and its pull to what was said before."""
        loss = self._loss(logits, batch)
        return loss if before is None else loss + self.kl_start * self._apart(before, logits)

    def _apart(self, right: Tensor, found: Tensor) -> Tensor:
        """Return the divergence of one reading from another, summed over the texts."""
        return binary_divergence(right, found) if self.many else divergence(right, found)

    def _loss(self, logits: Tensor, batch: ClassifyBatch) -> Tensor:
        """Return the loss of one reading, summed over the texts."""
        labels, weights, prior = (
            None if part is None else part.to(logits.device) for part in (batch.labels, batch.weights, batch.prior)
        )
        assert labels is not None
        if isinstance(self.loss, CrossEntropy):
            return self.loss(logits, labels, weights=weights, prior=prior)
        assert isinstance(self.loss, Focal | Binary)
        return self.loss(logits, labels, weights=weights)

    @property
    def _asked_weights(self) -> str | tuple[float, ...]:
        if isinstance(self.loss, Binary):
            return self.loss.positive_weights
        assert isinstance(self.loss, CrossEntropy | Focal)
        return self.loss.class_weights

    def _weights(self, counts: Counts) -> Tensor | None:
        """Return the labels' weights; balanced ones make all classes, or a label's yes and no, count alike."""
        asked = self._asked_weights
        if asked == "none":
            return None
        if asked != "balanced":
            return torch.tensor(asked)
        having = torch.tensor(counts.labels).clamp(min=1)  # a label without rows is never the right one
        if self.many:
            return (counts.rows - having).clamp(min=1) / having
        return counts.rows / (len(self.labels) * having)

    def _prior(self, counts: Counts) -> Tensor | None:
        """Return each class's share of the rows, where the loss adjusts the logits by it."""
        if not isinstance(self.loss, CrossEntropy) or not self.loss.logit_adjustment:
            return None
        return torch.tensor(counts.labels).clamp(min=1) / counts.rows

    def _indicators(self, items: Sequence[ClassifyItem]) -> Tensor:
        """Return (texts, labels), 1 where the text has the label."""
        found = torch.zeros(len(items), len(self.labels))
        for row, item in enumerate(items):
            found[row, list(item.labels)] = 1
        return found

    def _ordered(self, row: Labelled) -> tuple[str, ...]:
        """Return the row's labels in the recipe's order."""
        said = (row.label,) if isinstance(row.label, str) else row.label
        return tuple(label for label in self.labels if label in said)

    def _faults(self, row: Labelled) -> list[str]:
        """Return what is wrong with the row's labels."""
        if not self.many and not isinstance(row.label, str):
            return [f"row {row.id!r}: it has a list of labels, and the task gives one; set task.many for several"]
        return [
            f"row {row.id!r}: label {label!r} is not in the recipe's task.labels "
            f"[{', '.join(self.labels[:10])}{', …' if len(self.labels) > 10 else ''}].{near_miss(label, self.labels)}"
            for label in ([row.label] if isinstance(row.label, str) else row.label)
            if label not in self.labels
        ]

    def _shown(self, item: ClassifyItem) -> str:
        return ", ".join(self.labels[label] for label in item.labels) or "no label"

    @staticmethod
    def _logits(model: nn.Module, batch: ClassifyBatch) -> Tensor:
        logits: Tensor = model(**network_inputs(model, batch.input_ids, batch.attention_mask, batch.types)).logits
        return logits


def _lone(rows: Sequence[Labelled]) -> list[str]:
    """Return which rows have no second text where others have one."""
    lone = [row for row in rows if row.pair is None]
    return (
        [] if len(lone) == len(rows) else [f"row {row.id!r}: it has no `pair`, and other rows have one" for row in lone]
    )
