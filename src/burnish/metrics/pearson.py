"""Pearson's r: how well a straight line leads from predictions to references."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from burnish.metrics import Floats, Metric, correlation, correlation_sums, require_numbers, require_variation


class Pearson(Metric):
    """Pearson's correlation of predicted and right numbers, on any scale.

    Range -1…1; scale and offset of the predictions do not matter (RMSE minds them). Equal to scipy.stats.pearsonr.
    """

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def label(self) -> str:
        """`Pearson r`."""
        return "Pearson r"

    def statistics(self, predictions: Sequence[float], references: Sequence[float]) -> Floats:
        """Return (examples, 6): 1, x, y, x², y², x·y of the numbers, shifted and scaled over the whole sample."""
        said, right = require_numbers(predictions, references, self.label)
        x = require_variation(said, self.label, "the predictions")
        return correlation_sums(x, require_variation(right, self.label, "the references"))

    def paired_statistics(
        self, ours: Sequence[float], theirs: Sequence[float], references: Sequence[float]
    ) -> tuple[Floats, Floats]:
        """Return the statistics of two systems, shifted and scaled alike, so that their numbers may be swapped."""
        said = [require_numbers(predictions, references, self.label)[0] for predictions in (ours, theirs)]
        for numbers, whose in zip(said, ("our", "their"), strict=True):
            require_variation(numbers, self.label, f"{whose} predictions")
        right = require_variation(np.array(references, dtype=np.float64), self.label, "the references")
        both = require_variation(np.concatenate(said), self.label, "the predictions")
        return correlation_sums(both[: len(right)], right), correlation_sums(both[len(right) :], right)

    def combine(self, totals: Floats) -> Floats:
        """Return r from (…, 6) sums; not a number for a resample in which either side does not vary."""
        return correlation(totals)
