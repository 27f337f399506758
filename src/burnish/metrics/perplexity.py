"""Perplexity: among how many equally probable tokens a language model chooses, in effect."""

from collections.abc import Sequence
from math import inf, isfinite
from typing import ClassVar

import numpy as np

from burnish.errors import DataError
from burnish.metrics import Floats, Metric

LARGEST_MEAN = 700.0  # nats a token; e^710 is no floating-point number any more


class Perplexity(Metric):
    """exp(Σ negative log-likelihood / Σ tokens) over all texts together; lower is better, 1 is perfect.

    A prediction is (sum of a text's negative log-likelihood in nats, its number of tokens); references are not read.
    A long text weighs more than a short one. Two models compare only if their tokenizers are the same.
    """

    reads: ClassVar[str] = "likelihoods"
    higher_is_better: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (1.0, inf)

    @property
    def label(self) -> str:
        """`perplexity`."""
        return "perplexity"

    def statistics(self, predictions: Sequence[tuple[float, int]], references: Sequence[object]) -> Floats:  # noqa: ARG002
        """Return (examples, 2): negative log-likelihood and number of tokens.

        Raises:
            DataError: a text has no token, or its likelihood is no number or too small for one.
        """
        for place, (loss, tokens) in enumerate(predictions, start=1):
            where = f"{self.label}: text {place} of {len(predictions)}"
            if tokens < 1:
                raise DataError(f"{where} has {tokens} tokens; at least one is needed. Leave empty texts out")
            if not isfinite(loss) or loss < 0:
                raise DataError(
                    f"{where} has a negative log-likelihood of {loss}; a finite number of at least 0 is needed"
                )
            if loss / tokens > LARGEST_MEAN:
                raise DataError(
                    f"{where} has {loss / tokens:g} nats a token; e to that power is beyond what a number holds"
                )
        return np.array(predictions, dtype=np.float64).reshape(-1, 2)

    def combine(self, totals: Floats) -> Floats:
        """Return the perplexity from (…, 2) sums."""
        found: Floats = np.exp(totals[..., 0] / totals[..., 1])
        return found
