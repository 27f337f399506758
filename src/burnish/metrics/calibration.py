"""Calibration: how far the probabilities that a model states are from how often it is right."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from burnish.errors import DataError
from burnish.metrics import Floats, Guess, Metric


class Calibration(Metric):
    """Expected calibration error: Σ_b n_b/n · |share right in b − mean probability in b| over bins of equal width.

    Bin b of B holds the probabilities above (b − 1)/B and up to b/B; 0 is in the first. Lower is better, range 0…1.
    It is above 0 for a calibrated model too, by chance, and the more so the fewer examples a bin holds.
    Source: Naeini et al. 2015 (doi 10.1609/aaai.v29i1.9602); 15 bins as in Guo et al. 2017 (arXiv 1706.04599).
    """

    reads: ClassVar[str] = "guesses"
    higher_is_better: ClassVar[bool] = False

    bins: int = Field(default=15, ge=1)

    @property
    def label(self) -> str:
        """`ECE` for 15 bins, else with their number: `ECE (10 bins)`."""
        return "ECE" if self.bins == 15 else f"ECE ({self.bins} bins)"

    def statistics(self, predictions: Sequence[Guess], references: Sequence[str]) -> Floats:
        """Return (examples, 2 · bins): 1 in the guess's bin, then right (1 or 0) minus probability in the same bin.

        Raises:
            DataError: a probability lies outside 0…1.
        """
        for place, guess in enumerate(predictions, start=1):
            if not 0 <= guess.probability <= 1:
                raise DataError(
                    f"{self.label}: the probability of prediction {place} of {len(predictions)} is "
                    f"{guess.probability}; a number from 0 to 1 is needed"
                )
        probabilities = np.array([guess.probability for guess in predictions], dtype=np.float64)
        right = np.array([guess.label == true for guess, true in zip(predictions, references, strict=True)], dtype=bool)
        edges = np.arange(self.bins + 1) / self.bins
        places = np.maximum(np.searchsorted(edges, probabilities, side="left") - 1, 0)
        found, rows = np.zeros((len(right), 2, self.bins)), np.arange(len(right))
        found[rows, 0, places] = 1.0
        found[rows, 1, places] = right - probabilities
        return found.reshape(len(right), 2 * self.bins)

    def combine(self, totals: Floats) -> Floats:
        """Return the error from (…, 2 · bins) sums."""
        counts, gaps = np.split(totals, 2, axis=-1)
        found: Floats = np.abs(gaps).sum(axis=-1) / counts.sum(axis=-1)
        return found
