"""Per-example scores, and the 95 % interval of their mean.

Examples of one group (the questions of one module, the passages of one document) resemble each other, so they count as
one draw from the population: a cluster. An example whose group is empty is a cluster of its own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from burnish.errors import DataError

Floats: TypeAlias = NDArray[np.float64]

Z95 = NormalDist().inv_cdf(0.975)
TINY = 1e-12  # below this a gap between two scores is rounding
_BLOCK = 2_000_000  # draws held at once: 24 bytes each, about 48 MB


@dataclass(frozen=True, slots=True)
class Scores:
    """One metric's score of each example; kept, since intervals and paired tests need every one of them."""

    metric: str  # the metric's label, `nDCG@10`
    ids: tuple[str, ...]  # of the examples, each once
    values: tuple[float, ...]
    groups: tuple[str, ...]  # the cluster of each example; empty: a cluster of its own

    def __post_init__(self) -> None:
        """Refuse scores that no interval or test could use.

        Raises:
            DataError: the lengths differ, an id stands twice, or a score is not a finite number.
        """
        if not len(self.ids) == len(self.values) == len(self.groups):
            raise DataError(
                f"{self.metric}: {len(self.ids)} ids, {len(self.values)} scores and {len(self.groups)} groups; "
                "each example needs one of each"
            )
        if len(set(self.ids)) < len(self.ids):
            twice = next(example for example, times in Counter(self.ids).items() if times > 1)
            raise DataError(f"{self.metric}: example {twice!r} is scored twice; each id may stand once")
        for example, value in zip(self.ids, self.values, strict=True):
            if not isfinite(value):
                raise DataError(
                    f"{self.metric}: the score of example {example!r} is {value}; a finite number is needed"
                )


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the bounds of its 95 % interval, and the number of examples."""

    value: float
    low: float
    high: float
    n: int


def interval(scores: Scores, *, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Return the mean with its 95 % percentile bootstrap interval (Efron and Tibshirani 1993), deterministic by seed.

    Whole clusters are resampled where a group holds several examples (resampled examples would make the interval too
    narrow); the statistic is then sum / count over the clusters drawn. Below some 20 clusters any bootstrap is narrow.
    A proportion (all scores 0 or 1, no clusters) gets Wilson's interval, which holds near 0 and 1.
    Where all clusters have the same mean, resampling cannot vary and its zero width would claim certainty; the bounds
    are then the mean moved by `unseen_share` towards 0 and 1. A single cluster tells nothing about others: 0 and 1.

    Raises:
        DataError: there is no example.
    """
    n = len(scores.values)
    if not n:
        raise DataError(f"{scores.metric}: there is no example to score; at least one is needed")
    values = np.array(scores.values, dtype=np.float64)
    sums, counts = cluster_totals(values, scores.groups)
    if 1 < len(sums) == n and np.isin(values, (0.0, 1.0)).all():
        return wilson(float(values.sum()), n)
    value = float(values.mean())
    low, high = bootstrap_bounds(sums, counts, lowest=0.0, highest=1.0, seed=seed, resamples=resamples)
    return Interval(value, low, high, n)


def wilson(successes: float, n: int) -> Interval:
    """Return the share of successes with its 95 % score interval (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Raises:
        DataError: n is not positive, or successes lie outside 0…n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes in {n} trials: at least one trial and 0 to n successes are needed")
    share, weight = successes / n, Z95**2 / n
    middle = (share + weight / 2) / (1 + weight)
    reach = sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    low = 0.0 if successes == 0 else middle - reach  # exact there; the difference would leave rounding
    high = 1.0 if successes == n else middle + reach
    return Interval(share, low, high, n)


def cluster_totals(values: Floats, groups: Sequence[str]) -> tuple[Floats, Floats]:
    """Return each cluster's sum and its count, (clusters,) both, in the order in which the clusters appear."""
    seen: dict[tuple[str, int], int] = {}
    places = [seen.setdefault((group, -1 if group else row), len(seen)) for row, group in enumerate(groups)]
    sums, counts = np.bincount(places, weights=values), np.bincount(places)
    return sums.astype(np.float64), counts.astype(np.float64)


def bootstrap_bounds(
    sums: Floats, counts: Floats, *, lowest: float, highest: float, seed: int, resamples: int
) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points of the mean over resampled clusters.

    sums, counts: (clusters,), at least one. lowest, highest: the range of a score, for clusters that do not vary.
    """
    means = sums / counts
    if np.ptp(means) <= TINY:
        mean, share = float(means[0]), unseen_share(len(means))
        return mean - share * max(mean - lowest, 0.0), mean + share * max(highest - mean, 0.0)
    low, high = np.quantile(_resampled_means(sums, counts, seed=seed, resamples=resamples), (0.025, 0.975))
    return float(low), float(high)


def unseen_share(clusters: int) -> float:
    """Return how large a share of all clusters may differ although none of those seen did; 1 where one was seen.

    It is Wilson's upper bound for 0 of `clusters`, so scores that are all 0 or all 1 get Wilson's interval.
    """
    return 1.0 if clusters == 1 else wilson(0, clusters).high


def _resampled_means(sums: Floats, counts: Floats, *, seed: int, resamples: int) -> Floats:
    """Return sum / count over clusters drawn with replacement, (resamples,); in blocks, to bound the memory."""
    random = np.random.Generator(np.random.PCG64(seed))
    clusters = len(sums)
    rows = max(1, _BLOCK // clusters)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = random.integers(clusters, size=(stop - start, clusters))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
