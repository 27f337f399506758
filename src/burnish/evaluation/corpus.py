"""Intervals and paired tests for every metric, corpus metrics included: sums over resampled clusters, then the metric.

`score.interval` and `compare.compare` serve metrics that are means of scores; both functions here hand such metrics on
to them. For all others (macro F1, BLEU, a correlation) a resample is drawn of the sums that the metric is made from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from burnish.errors import DataError
from burnish.evaluation.compare import EXACT, Difference, compare
from burnish.evaluation.score import TINY, Floats, Interval, Scores, interval, unseen_share
from burnish.metrics import Metric

ROUNDING = 1e-9  # two values of a metric this close are equal: sums in another order differ by as much
_BLOCK = 2_000_000  # numbers of one resampling block: 8 bytes each, a few arrays of it at once


def metric_interval(
    metric: Metric,
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = 2_000,
) -> Interval:
    """Return the metric with its 95 % percentile bootstrap interval, deterministic by seed; memory is bounded.

    groups: the cluster of each example, whole clusters are resampled; empty: a cluster of its own.
    A resample on which the metric is not defined (the correlation of equal numbers) may lie anywhere: it counts as the
    lowest value for the lower bound and as the highest for the upper one. Where no resample differs from another, the
    bounds are the value moved by `unseen_share` towards the metric's own bounds, as in `score.interval`; or the value
    itself, if it is `certain`.

    Raises:
        DataError: there is no example, the metric is not defined on them, or no finite interval can be given.
    """
    _require_examples(metric, len(predictions), groups)
    if _is_plain(metric):
        scores = _scores(metric, predictions, references, groups)
        return interval(scores, seed=seed, resamples=resamples)
    statistics = metric.statistics(predictions, references)
    value = _defined(metric, statistics, "")
    sums = _cluster_sums(statistics, groups)
    blocks = _draws(len(sums), sums.shape[1], seed=seed, resamples=resamples)
    found = np.concatenate([_combined(metric, counts @ sums) for counts in blocks])
    lowest, highest = metric.bounds
    if _varies(found):
        low, high = _percentiles(metric, found, lowest, highest)
    elif _is_certain(metric, statistics):
        low = high = value
    elif isfinite(lowest) and isfinite(highest):
        share = unseen_share(len(sums))
        low, high = value - share * (value - lowest), value + share * (highest - value)
    else:
        raise DataError(
            f"{metric.label} is {value:g} on every resample of {len(sums)} cluster{'s' if len(sums) > 1 else ''}, and "
            "it has no bound of its own: how far it may lie elsewhere cannot be told. Score more, different examples"
        )
    return Interval(value, low, high, len(predictions))


def metric_difference(
    metric: Metric,
    ours: Sequence[Any],
    theirs: Sequence[Any],
    references: Sequence[Any],
    *,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = 2_000,
) -> Difference:
    """Compare the predictions of two systems on the same examples, in the same order; deterministic by seed.

    The difference is ours minus theirs on the metric's own scale, whatever is better: where lower is better (ECE, RMSE,
    perplexity), a NEGATIVE difference says that ours is better. Wins are examples on which ours is better, whichever
    way that is, by the metric of the single example; where it has none (a correlation), the example counts as a tie.
    Interval: paired percentile bootstrap over clusters, as `metric_interval`.
    p: two-sided randomisation test that swaps the two systems' predictions of whole clusters (Fisher 1935, Noreen
    1989). Up to 15 clusters that differ all swaps are tried, otherwise `resamples` random ones, and
    p = (1 + #{|T*| ≥ |T|}) / (resamples + 1). A swap on which the metric is not defined counts as such an extreme.

    Raises:
        DataError: there is no example, the numbers of predictions differ, or the metric or its interval is not defined.
    """
    _require_examples(metric, len(references), groups)
    if not len(ours) == len(theirs) == len(references):
        raise DataError(
            f"{metric.label}: {len(ours)} predictions of ours, {len(theirs)} of theirs and {len(references)} "
            "references; a comparison needs the same examples in the same order"
        )
    if _is_plain(metric):
        mine, other = (_scores(metric, predictions, references, groups) for predictions in (ours, theirs))
        found = compare(mine, other, seed=seed, resamples=resamples)
        return found if metric.higher_is_better else replace(found, wins=found.losses, losses=found.wins)
    mine_each, other_each = metric.paired_statistics(ours, theirs, references)
    difference = _defined(metric, mine_each, " for ours") - _defined(metric, other_each, " for theirs")
    mine_sums, other_sums = _cluster_sums(mine_each, groups), _cluster_sums(other_each, groups)
    low, high = _difference_bounds(metric, mine_sums, other_sums, difference, seed=seed, resamples=resamples)
    gaps = np.nan_to_num(_combined(metric, mine_each) - _combined(metric, other_each), nan=0.0)
    gaps = gaps if metric.higher_is_better else -gaps
    wins, losses = int((gaps > ROUNDING).sum()), int((gaps < -ROUNDING).sum())
    return Difference(
        difference=difference,
        low=low,
        high=high,
        p=_swap_p(metric, mine_sums, other_sums, difference, seed=seed, resamples=resamples),
        n=len(gaps),
        wins=wins,
        ties=len(gaps) - wins - losses,
        losses=losses,
    )


def _is_plain(metric: Metric) -> bool:
    """Tell whether it is a mean of scores from 0 to 1, the case that `interval` and `compare` are made for."""
    return metric.is_mean and metric.bounds == (0.0, 1.0)


def _require_examples(metric: Metric, examples: int, groups: Sequence[str]) -> None:
    """Check that there are examples, and a group for each.

    Raises:
        DataError: there are not.
    """
    if not examples:
        raise DataError(f"{metric.label}: there is no example to score; at least one is needed")
    if len(groups) != examples:
        raise DataError(f"{metric.label}: {examples} examples and {len(groups)} groups; each example needs one")


def _scores(metric: Metric, predictions: Sequence[Any], references: Sequence[Any], groups: Sequence[str]) -> Scores:
    """Return the scores of the examples, which are called by their place."""
    values = metric.score(predictions, references)
    return Scores(
        metric.label, tuple(f"example {place}" for place in range(1, len(values) + 1)), tuple(values), tuple(groups)
    )


def _defined(metric: Metric, statistics: Floats, whose: str) -> float:
    """Return the metric over all examples.

    Raises:
        DataError: it is not a finite number.
    """
    value = float(_combined(metric, statistics.sum(axis=0)))
    if not isfinite(value):
        raise DataError(f"{metric.label} is not defined{whose} on these {len(statistics)} examples (found {value})")
    return value


def _combined(metric: Metric, totals: Floats) -> Floats:
    """Return the metric, (…), from (…, s) totals; not a number where it is not defined."""
    with np.errstate(all="ignore"):
        return metric.combine(totals)


def _cluster_sums(statistics: Floats, groups: Sequence[str]) -> Floats:
    """Return each cluster's sums, (clusters, s), in the order in which the clusters appear."""
    seen: dict[tuple[str, int], int] = {}
    places = [seen.setdefault((group, -1 if group else row), len(seen)) for row, group in enumerate(groups)]
    sums = np.zeros((len(seen), statistics.shape[1]))
    np.add.at(sums, places, statistics)
    return sums


def _draws(clusters: int, columns: int, *, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield blocks of (rows, clusters): how often each resample holds each cluster, drawn with replacement."""
    random = np.random.Generator(np.random.PCG64(seed))
    for rows in _blocks(resamples, max(clusters, columns)):
        drawn = random.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)


def _blocks(resamples: int, width: int) -> Iterator[int]:
    """Yield how many resamples to hold at once, until all are done."""
    rows = max(1, _BLOCK // width)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _varies(found: Floats) -> bool:
    """Tell whether resamples differ; one on which the metric is not defined does."""
    return not np.isfinite(found).all() or float(np.ptp(found)) > TINY * max(1.0, float(np.abs(found).max()))


def _is_certain(metric: Metric, statistics: Floats) -> bool:
    """Tell whether every example, or cluster, has the value that no other one would change."""
    return metric.certain is not None and bool((_combined(metric, statistics) == metric.certain).all())


def _percentiles(metric: Metric, found: Floats, lowest: float, highest: float) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % points, what is not defined standing at either end.

    Raises:
        DataError: so many resamples are not defined that a bound would be infinite.
    """
    known = np.isfinite(found)
    with np.errstate(invalid="ignore"):
        low = float(np.quantile(np.where(known, found, lowest), 0.025))
        high = float(np.quantile(np.where(known, found, highest), 0.975))
    if not isfinite(low) or not isfinite(high):
        raise DataError(
            f"{metric.label} is not defined on {int((~known).sum())} of {len(found)} resamples, and it has no bound of "
            "its own, so no interval can be given. Score more examples"
        )
    return low, high


def _difference_bounds(
    metric: Metric, ours: Floats, theirs: Floats, difference: float, *, seed: int, resamples: int
) -> tuple[float, float]:
    """Return the bounds of the difference; ours, theirs: (clusters, s).

    Raises:
        DataError: nothing varies, and nothing says how large a change is possible.
    """
    clusters, columns = ours.shape
    blocks = _draws(clusters, columns, seed=seed, resamples=resamples)
    found = np.concatenate([_combined(metric, counts @ ours) - _combined(metric, counts @ theirs) for counts in blocks])
    reach = metric.bounds[1] - metric.bounds[0]
    if _varies(found):
        return _percentiles(metric, found, -reach, reach)
    if _is_certain(metric, ours) and _is_certain(metric, theirs):
        return 0.0, 0.0
    if not isfinite(reach) and clusters > 1:  # the largest change seen: from the worst cluster to the best
        alone = np.concatenate([_combined(metric, ours), _combined(metric, theirs), np.array(metric.bounds)])
        reach = float(np.ptp(alone[np.isfinite(alone)]))
    if not isfinite(reach) or reach < abs(difference) or reach <= TINY:
        raise DataError(
            f"{metric.label} differs by {difference:g} on every resample of {clusters} "
            f"cluster{'s' if clusters > 1 else ''}, and it has no bound of its own: how far the difference may lie "
            "elsewhere cannot be told. Score more, and different, examples"
        )
    share = unseen_share(clusters)
    return difference - share * (reach + difference), difference + share * (reach - difference)


def _swap_p(metric: Metric, ours: Floats, theirs: Floats, difference: float, *, seed: int, resamples: int) -> float:
    """Return the two-sided p-value of the difference when every cluster's systems are swapped by a coin toss."""
    gaps = theirs - ours
    gaps = gaps[(np.abs(gaps) > TINY).any(axis=1)]  # swapping equals changes nothing
    mine, other = ours.sum(axis=0), theirs.sum(axis=0)
    edge = abs(difference) - ROUNDING * max(1.0, abs(difference))

    def extreme(swaps: Floats) -> int:
        moved = swaps @ gaps
        found = _combined(metric, mine + moved) - _combined(metric, other - moved)
        return int((~(np.abs(found) < edge)).sum())  # not a number is none of these

    clusters = len(gaps)
    if clusters <= EXACT:
        patterns = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
        return extreme(patterns.astype(np.float64)) / len(patterns)
    random = np.random.Generator(np.random.PCG64(seed))
    blocks = _blocks(resamples, max(clusters, ours.shape[1]))
    count = sum(extreme(random.integers(2, size=(rows, clusters), dtype=np.int8).astype(np.float64)) for rows in blocks)
    return (1 + count) / (resamples + 1)
