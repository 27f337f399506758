"""RMSE: how far predicted numbers are off, in the unit of the references."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np

from burnish.errors import DataError
from burnish.metrics import Floats, Metric, require_numbers


class Rmse(Metric):
    """Root of the mean squared error, in the unit of the references; lower is better, 0 is perfect.

    Range 0…∞. One error of 10 weighs as much as a hundred errors of 1.
    """

    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, inf)

    @property
    def label(self) -> str:
        """`RMSE`."""
        return "RMSE"

    def statistics(self, predictions: Sequence[float], references: Sequence[float]) -> Floats:
        """Return (examples, 2): the squared error, and 1.

        Raises:
            DataError: a number is not finite, or an error is too large to square.
        """
        said, right = require_numbers(predictions, references, self.label)
        with np.errstate(over="ignore"):
            squares = (said - right) ** 2
            total = squares.sum()
        if not np.isfinite(total):
            raise DataError(
                f"{self.label}: the errors are too large to square, up to {np.abs(said / 2 - right / 2).max():g} · 2; "
                "measure in a larger unit"
            )
        return np.stack([squares, np.ones(len(squares))], axis=1)

    def combine(self, totals: Floats) -> Floats:
        """Return the error from (…, 2) sums."""
        found: Floats = np.sqrt(totals[..., 0] / totals[..., 1])
        return found
