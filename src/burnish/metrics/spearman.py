"""Spearman's ρ: whether predictions and references are in the same order."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from burnish.metrics import Floats, Metric, correlation, correlation_sums, require_numbers, require_variation


class Spearman(Metric):
    """Spearman's rank correlation: Pearson's r of the ranks; equal numbers share the mean of their ranks.

    Ranks are taken once, over the whole sample, and a resample or a swap of two systems' predictions moves the ranks
    along with the examples: it is the correlation of the sample's ranks there, not of ranks taken anew.
    Range -1…1. Equal to scipy.stats.spearmanr.
    """

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def label(self) -> str:
        """`Spearman ρ`."""
        return "Spearman ρ"

    def statistics(self, predictions: Sequence[float], references: Sequence[float]) -> Floats:
        """Return (examples, 6): 1, x, y, x², y², x·y of the ranks, shifted and scaled."""
        said, right = require_numbers(predictions, references, self.label)
        require_variation(said, self.label, "the predictions")
        require_variation(right, self.label, "the references")
        ranks = [require_variation(_ranks(numbers), self.label, "the ranks") for numbers in (said, right)]
        return correlation_sums(ranks[0], ranks[1])

    def combine(self, totals: Floats) -> Floats:
        """Return ρ from (…, 6) sums; not a number for a resample in which either side does not vary."""
        return correlation(totals)


def _ranks(numbers: Floats) -> Floats:
    """Return the rank of each number, from 1; equal numbers get the mean of the ranks that they fill."""
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = (last - (counts - 1) / 2)[places]
    return found
