"""F1, precision and recall from the true and false positives of each class."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field

from burnish.metrics import Floats, Metric, quotient

Labels: TypeAlias = str | Sequence[str]  # one label, or all that hold


def _different(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels.

    Raises:
        ValueError: one stands twice, and would count twice.
    """
    if twice := [label for place, label in enumerate(labels) if label in labels[:place]]:
        raise ValueError(f"label {twice[0]!r} is named twice")
    return labels


class F1(Metric):
    """F1 over classes: of single labels, or of sets of labels where several may hold.

    f1 = 2·tp / (2·tp + fp + fn), precision = tp / (tp + fp), recall = tp / (tp + fn); 0 where the divisor is 0.
    `micro` counts over all classes before dividing, `macro` is the mean over classes, `weighted` the mean weighted by
    how often each class is right. On single labels, `micro` over all classes is the accuracy.
    labels: the classes to average over; a class that never occurs then counts 0, and one that is not listed is left
    out. Without it: those that occur, be it as prediction or as reference. A class that a resample lacks is so treated
    there too. Range 0…1. Equal to scikit-learn with `zero_division=0`.
    """

    average: Literal["micro", "macro", "weighted"] = "macro"
    part: Literal["f1", "precision", "recall"] = "f1"
    labels: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_different)] | None = None

    @property
    def label(self) -> str:
        """`macro F1`; with the classes it is restricted to, `macro F1 of yes, no`."""
        name = f"{self.average} {'F1' if self.part == 'f1' else self.part}"
        return f"{name} of {', '.join(self.labels)}" if self.labels else name

    def statistics(self, predictions: Sequence[Labels], references: Sequence[Labels]) -> Floats:
        """Return (examples, 3 · classes): true positives of each class, then false positives, then false negatives."""
        said, right = [_set_of(found) for found in predictions], [_set_of(found) for found in references]
        classes = self.labels or tuple(sorted(set().union(*said, *right)))
        column = {label: place for place, label in enumerate(classes)}
        counts = np.zeros((len(right), 3, len(classes)))
        for row, (mine, true) in enumerate(zip(said, right, strict=True)):
            for kind, labels in enumerate((mine & true, mine - true, true - mine)):
                counts[row, kind, [column[label] for label in labels if label in column]] = 1
        return counts.reshape(len(right), 3 * len(classes))

    def paired_statistics(
        self, ours: Sequence[Labels], theirs: Sequence[Labels], references: Sequence[Labels]
    ) -> tuple[Floats, Floats]:
        """Return the statistics of two systems over the classes that either of them met."""
        both = self.statistics([*ours, *theirs], [*references, *references])
        return both[: len(ours)], both[len(ours) :]

    def combine(self, totals: Floats) -> Floats:
        """Return the average over classes from (…, 3 · classes) counts."""
        counts = np.moveaxis(totals.reshape(*totals.shape[:-1], 3, totals.shape[-1] // 3), -2, 0)
        if self.average == "micro":
            return self._rate(counts.sum(axis=-1))
        hits, _, misses = counts
        if self.average == "weighted":
            weights = hits + misses
        else:
            weights = np.ones_like(hits) if self.labels else (counts.sum(axis=0) > 0).astype(np.float64)
        return quotient((weights * self._rate(counts)).sum(axis=-1), weights.sum(axis=-1))

    def _rate(self, counts: Floats) -> Floats:
        """Return the F1, precision or recall from (3, …) true positives, false positives and false negatives."""
        hits, alarms, misses = counts
        if self.part == "precision":
            return quotient(hits, hits + alarms)
        if self.part == "recall":
            return quotient(hits, hits + misses)
        return quotient(2 * hits, 2 * hits + alarms + misses)


def _set_of(labels: Labels) -> set[str]:
    """Return one label, or several, as a set."""
    return {labels} if isinstance(labels, str) else set(labels)
