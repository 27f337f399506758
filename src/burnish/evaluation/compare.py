"""Two systems on the same examples: the difference, its interval, and whether chance explains it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from burnish.errors import DataError
from burnish.evaluation.score import TINY, Z95, Floats, Scores, bootstrap_bounds, cluster_totals, unseen_share

EXACT = 15  # up to so many clusters all 2^clusters sign patterns are tried
SHOWN_IDS = 3
_BLOCK = 4_000_000  # signs held at once: 17 bytes each, about 68 MB


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of ours minus theirs with its 95 % interval, the two-sided p-value, and on how many examples who won."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    wins: int
    ties: int
    losses: int


def gap_text(gain: Mapping[str, float]) -> str:
    """Return a difference with its interval, as text; gain: `difference`, and the bounds `low` and `high`."""
    return f"{gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def compare(ours: Scores, theirs: Scores, *, seed: int = 0, resamples: int = 10_000) -> Difference:
    """Compare two systems on the same examples, paired by id; deterministic by seed.

    p: sign-flip randomisation of the paired differences (Fisher 1935), two-sided; groups that hold several examples
    are flipped as a whole. Up to 15 clusters with a difference all flips are tried, otherwise `resamples` random ones,
    and p = (1 + #{|T*| ≥ |T|}) / (resamples + 1), so it is never 0.
    Interval: paired percentile bootstrap of the mean difference over the same clusters; where no cluster differs from
    another, see `interval`, with the range -1…1. It is no inversion of the test: near p = .05 the two may disagree.

    Raises:
        DataError: there is no example, or metrics, ids or groups differ.
    """
    gaps = _gaps(ours, theirs)
    sums, counts = cluster_totals(gaps, ours.groups)
    low, high = bootstrap_bounds(sums, counts, lowest=-1.0, highest=1.0, seed=seed, resamples=resamples)
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    return Difference(
        difference=float(gaps.mean()),
        low=low,
        high=high,
        p=_flip_p(sums, seed=seed, resamples=resamples),
        n=len(gaps),
        wins=wins,
        ties=len(gaps) - wins - losses,
        losses=losses,
    )


def smallest_detectable(ours: Scores, theirs: Scores) -> float:
    """Return the smallest true difference that a comparison like this one finds in 80 % of cases, two-sided at 5 %.

    (z_.975 + z_.80) · standard error of the mean difference; the standard error is the cluster-robust one
    (Miller 2024, arXiv 2411.00640) with the correction m / (m - 1) for m clusters. Where the differences do not vary,
    or one cluster is all there is, no standard error exists: then it is the share of clusters whose change may have
    gone unseen, times the largest change, 1.

    Raises:
        DataError: there is no example, or metrics, ids or groups differ.
    """
    gaps = _gaps(ours, theirs)
    sums, counts = cluster_totals(gaps, ours.groups)
    clusters = len(sums)
    if np.ptp(sums / counts) <= TINY:
        return unseen_share(clusters)
    strays = sums - gaps.mean() * counts
    error = sqrt(clusters / (clusters - 1) * float(strays @ strays)) / len(gaps)
    return (Z95 + NormalDist().inv_cdf(0.8)) * error


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given.

    All that are below .05 hold together at 5 %.

    Raises:
        DataError: a p-value lies outside 0…1.
    """
    if bad := [p for p in p_values if not 0 <= p <= 1]:
        raise DataError(f"p-value {bad[0]} lies outside 0…1")
    adjusted, floor = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - done) * p_values[place]))
        adjusted[place] = floor
    return adjusted


def _gaps(ours: Scores, theirs: Scores) -> Floats:
    """Return ours minus theirs, (examples,), in our order; what is only rounding becomes 0.

    Raises:
        DataError: there is no example, or metrics, ids or groups differ.
    """
    if ours.metric != theirs.metric:
        raise DataError(f"{ours.metric} cannot be compared with {theirs.metric}: a comparison needs one metric")
    mine, other = set(ours.ids), set(theirs.ids)
    if mine != other:
        raise DataError(
            f"{ours.metric}: the two were scored on different examples: "
            f"{_named(i for i in ours.ids if i not in other)} only in ours, "
            f"{_named(i for i in theirs.ids if i not in mine)} only in theirs, {len(mine & other)} in both. "
            "Score both on the same examples"
        )
    if not mine:
        raise DataError(f"{ours.metric}: there is no example to compare; at least one is needed")
    place = {example: row for row, example in enumerate(theirs.ids)}
    order = [place[example] for example in ours.ids]
    for example, group, row in zip(ours.ids, ours.groups, order, strict=True):
        if group != theirs.groups[row]:
            raise DataError(
                f"{ours.metric}: example {example!r} is of group {group!r} in ours and {theirs.groups[row]!r} in "
                "theirs. Score both on the same data"
            )
    gaps = np.array(ours.values, dtype=np.float64) - np.array(theirs.values, dtype=np.float64)[order]
    gaps[np.abs(gaps) <= TINY] = 0.0
    return gaps


def _named(ids: Iterable[str]) -> str:
    """Return how many ids there are, and the first of them."""
    found = list(ids)
    if not found:
        return "none"
    return f"{len(found)} ({', '.join(map(repr, found[:SHOWN_IDS]))}{', …' if len(found) > SHOWN_IDS else ''})"


def _flip_p(sums: Floats, *, seed: int, resamples: int) -> float:
    """Return the two-sided p-value of Σ sums when every sign is a coin toss; sums: (clusters,)."""
    sums = sums[np.abs(sums) > TINY]  # the sign of a zero changes nothing
    clusters = len(sums)
    observed = abs(float(sums.sum())) - TINY * max(1.0, float(np.abs(sums).sum()))  # equal up to rounding is equal
    if clusters <= EXACT:
        bits = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ sums) >= observed))
    random = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, _BLOCK // clusters)
    extreme = 0
    for start in range(0, resamples, rows):
        signs = 1.0 - 2.0 * random.integers(2, size=(min(rows, resamples - start), clusters), dtype=np.int8)
        extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + extreme) / (resamples + 1)
