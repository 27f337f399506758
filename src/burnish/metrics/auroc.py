"""AUROC: how well a probability tells one class from the rest, whatever the threshold."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from burnish.errors import DataError, near_miss
from burnish.metrics import Floats, Metric

_BINS = 1024
_NUMBERS = 2**25  # statistics held at once: 8 bytes each, 256 MB


class Auroc(Metric):
    """The chance that an example of the class has a higher probability of it than one of another; equal ones are half.

    It is the area under the ROC curve (Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747): 0.5 is chance.
    Up to 1,024 different probabilities it is exact. With more, or tens of thousands of examples, neighbours share a
    bin and pairs within one count half, which moves it by less than one half of the share of pairs within bins.
    Not defined on a resample without either kind.
    """

    reads: ClassVar[str] = "shares"

    positive: str  # the class

    @property
    def label(self) -> str:
        """`AUROC of` the class."""
        return f"AUROC of {self.positive}"

    def statistics(self, predictions: Sequence[Mapping[str, float]], references: Sequence[str]) -> Floats:
        """Return (examples, 2 · bins): 1 in the bin of the probability if the class is right, then 1 if it is not.

        predictions: each label's probability, or any score that is higher where the class is likelier.
        """
        scores = self._scores(predictions)
        return self._binned(scores, scores, references)

    def paired_statistics(
        self,
        ours: Sequence[Mapping[str, float]],
        theirs: Sequence[Mapping[str, float]],
        references: Sequence[str],
    ) -> tuple[Floats, Floats]:
        """Return the statistics of two systems in common bins: of ranks, since their scores may differ in scale."""
        ranks = [rankdata(self._scores(predictions)) for predictions in (ours, theirs)]
        both = np.concatenate(ranks)
        return self._binned(ranks[0], both, references), self._binned(ranks[1], both, references)

    def combine(self, totals: Floats) -> Floats:
        """Return the area, (…), from (…, 2 · bins) sums; not a number where one kind is not there."""
        right, wrong = np.split(totals, 2, axis=-1)
        below = np.cumsum(wrong, axis=-1) - wrong / 2
        pairs = right.sum(axis=-1) * wrong.sum(axis=-1)
        found: Floats = np.divide(
            (right * below).sum(axis=-1), pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0
        )
        return found

    def _scores(self, predictions: Sequence[Mapping[str, float]]) -> Floats:
        """Return (examples,), how probable the class is.

        Raises:
            DataError: the class is no label, or a score is no finite number.
        """
        for place, shares in enumerate(predictions, start=1):
            if self.positive not in shares:
                raise DataError(
                    f"{self.label}: prediction {place} of {len(predictions)} tells nothing of {self.positive!r}."
                    f"{near_miss(self.positive, shares)} Labels are: {', '.join(shares)}"
                )
        scores = np.array([shares[self.positive] for shares in predictions], dtype=np.float64)
        if len(bad := np.flatnonzero(~np.isfinite(scores))):
            raise DataError(f"{self.label}: prediction {bad[0] + 1} of {len(scores)} is {scores[bad[0]]}")
        return scores

    def _binned(self, scores: Floats, seen: Floats, references: Sequence[str]) -> Floats:
        """Return (examples, 2 · bins); the bins are those of all scores that are seen."""
        right = np.array([name == self.positive for name in references], dtype=np.intp)
        edges = np.unique(seen)
        bins = min(_BINS, max(64, _NUMBERS // (2 * max(len(scores), 1))))
        if len(edges) > bins:
            edges = np.unique(np.quantile(seen, np.linspace(0, 1, bins)))
        found = np.zeros((len(scores), 2, max(len(edges), 1)))
        found[np.arange(len(scores)), 1 - right, np.searchsorted(edges, scores, side="right") - 1] = 1.0
        return found.reshape(len(scores), 2 * found.shape[2])
