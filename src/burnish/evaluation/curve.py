"""The learning curve: what more labels brought, what doubling them would bring, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from scipy.stats import chi2

from burnish.evaluation.compare import gap_text
from burnish.evaluation.score import TINY, Floats
from burnish.evaluation.task import Evaluated
from burnish.evaluation.verdict import LIKELY
from burnish.metrics import Metric

LEAST_POINTS = 4  # the law has three numbers of its own; only a further point can contradict it
STRAY = 0.99  # points that stray further from the law than so many samples of test rows would are not of this law
WORTH = 0.02  # of the metric's range (without one, of its value): what is sure to be less is called next to nothing
EXPONENTS = np.geomspace(0.05, 2.0, 75)  # 0.07…0.35 were seen over many sizes (Hestness et al. 2017), 1 is fast
_BLOCK = 2_000_000  # numbers of one resampling block


@dataclass(frozen=True, slots=True)
class Doubling:
    """What doubling the labels would change, on the metric's own scale, with a 95 % interval; or why that is not known.

    The law, for n of N labels: end + slope · (n / N)^-exponent. `why` is empty where the numbers hold.
    """

    change: float = 0.0
    low: float = 0.0
    high: float = 0.0
    end: float = 0.0
    slope: float = 0.0
    exponent: float = 0.0
    why: str = ""

    def at(self, size: float) -> float:
        """Return the law's value at so many times the labels there are."""
        return float(self.end + self.slope * size**-self.exponent)


def statistics(metric: Metric, evaluated: Evaluated, references: Sequence[Any]) -> Floats:
    """Return the metric's statistics of a model's predictions, (examples, s); of one whose scores were kept, those."""
    if metric.label in evaluated.predictions:
        scores = np.array(evaluated.predictions[metric.label], dtype=np.float64)
        return np.stack([scores, np.ones(len(scores))], axis=1)
    return metric.statistics(evaluated.predictions[metric.reads], references)


def resampled(
    metric: Metric, systems: Sequence[Floats], *, groups: Sequence[str], seed: int, resamples: int = 1_000
) -> Floats:
    """Return the metric of each system on the same resamples of the examples, (resamples, systems).

    systems: the statistics of each, (examples, s). groups: the cluster of each example; whole clusters are drawn, with
    replacement, as in `corpus.metric_interval`; empty: a cluster of its own. Not a number where the metric is not
    defined.
    """
    seen: dict[tuple[str, int], int] = {}
    places = [seen.setdefault((group, -1 if group else row), len(seen)) for row, group in enumerate(groups)]
    sums = [np.zeros((len(seen), each.shape[1])) for each in systems]
    for total, each in zip(sums, systems, strict=True):
        np.add.at(total, places, each)
    random = np.random.Generator(np.random.PCG64(seed))
    rows, found = max(1, _BLOCK // len(seen)), []
    for start in range(0, resamples, rows):
        drawn = random.integers(len(seen), size=(min(rows, resamples - start), len(seen)))
        counts = np.stack([np.bincount(row, minlength=len(seen)) for row in drawn]).astype(np.float64)
        with np.errstate(all="ignore"):
            found.append(np.stack([metric.combine(counts @ total) for total in sums], axis=1))
    return np.concatenate(found)


def power_law(sizes: Sequence[int], values: Floats, *, lowest: float, highest: float) -> tuple[Floats, ...]:
    """Fit value = end + slope · (n / N)^-exponent by least squares, where N is the last size; higher is better.

    values: (fits, sizes). The exponent is the best of a grid from 0.05 to 2; the end, where the law leads with ever
    more labels, is kept within the metric's bounds. Returns end, slope, exponent and the sum of squared residuals,
    (fits,) each.
    """
    parts = np.array(sizes, dtype=np.float64) / sizes[-1]
    best = [np.zeros(len(values)) for _ in range(3)] + [np.full(len(values), np.inf)]
    for exponent in EXPONENTS:
        x = parts**-exponent
        spread = x - x.mean()
        slope = (values - values.mean(axis=1, keepdims=True)) @ spread / (spread @ spread)
        free = values.mean(axis=1) - slope * x.mean()
        end = np.clip(free, lowest, highest)
        slope = np.where(end == free, slope, (values - end[:, None]) @ x / (x @ x))
        squares = ((values - end[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
        better = squares < best[3]
        for kept, new in zip(best, (end, slope, np.full(len(values), exponent), squares), strict=True):
            kept[better] = new[better]
    return tuple(best)


def doubling(
    metric: Metric, sizes: Sequence[int], values: Sequence[float], draws: Floats, gap: Mapping[str, float]
) -> Doubling:
    """Extrapolate the curve to twice its last size.

    sizes: how many labels each point had, rising. values: the metric at each. draws: from `resampled`, one column a
    point. gap: the difference of the last two points, whose bounds stand in where no resample differs from another.
    The interval comes from the test rows. Each point is one training with a chance of its own, which shows in how far
    the points stray from the law: by more than is expected of the test rows, and the interval is widened by as much
    (the ratio's root, as Birge 1932 widens errors); by much more, and there is no interval.
    In simulations (60 to 1,000 test rows) it held the true change in 94 % of cases where a training's own chance is up
    to .01, at the least favourable setting in 79 %; where that chance is .02, in 70 to 97 %.
    """
    if len(sizes) < LEAST_POINTS:
        return Doubling(why=f"a power law needs at least {LEAST_POINTS} points, and there are {len(sizes)}")
    sign = 1.0 if metric.higher_is_better else -1.0
    lowest, highest = sorted(sign * bound for bound in metric.bounds)
    known = sign * draws[np.isfinite(draws).all(axis=1)]
    if len(known) < 0.975 * len(draws):
        return Doubling(why=f"{metric.label} is not defined on {len(draws) - len(known)} of {len(draws)} resamples")
    ours = sign * np.array(values)
    end, slope, exponent, squares = (
        float(part[0]) for part in power_law(sizes, ours[None], lowest=lowest, highest=highest)
    )
    noise = float((known - known.mean(axis=1, keepdims=True)).var(axis=0).mean())
    freedom = len(sizes) - 3
    if squares > max(chi2.ppf(STRAY, freedom) * noise, TINY):
        stray = (squares / len(sizes)) ** 0.5
        return Doubling(why=f"the points stray from a power law by {stray:.3f}, more than the test rows explain")
    _, slopes, exponents, _ = power_law(sizes, known, lowest=lowest, highest=highest)
    gains = slopes * (2**-exponents - 1)
    gain = slope * (2**-exponent - 1)
    if float(np.ptp(gains)) > TINY:
        wider = max(1.0, squares / (freedom * noise)) ** 0.5
        low, high = (gain + wider * (float(bound) - gain) for bound in np.quantile(gains, (0.025, 0.975)))
    else:
        low, high = sorted(sign * gap[bound] for bound in ("low", "high"))
    room = highest - float(ours[-1])  # on these test rows no more is to be had
    low, high = min(low, gain), min(max(high, gain), max(room, gain))
    bounds = sorted(sign * bound for bound in (low, high))
    return Doubling(sign * gain, bounds[0], bounds[1], sign * end, sign * slope, exponent)


def answer(
    metric: Metric, sizes: Sequence[int], values: Sequence[float], gap: Mapping[str, float], more: Doubling
) -> tuple[str, str]:
    """Answer whether more labels would help: Yes, Probably, Unclear, Hardly or No; then the sentence that says why."""
    sign = 1.0 if metric.higher_is_better else -1.0
    reach = metric.bounds[1] - metric.bounds[0]
    worth = WORTH * (reach if isfinite(reach) else abs(values[-1]))
    least, most = sorted(sign * bound for bound in (more.low, more.high))
    told, sure = not more.why, gap["p"] < LIKELY
    rising, falling = sure and sign * gap["difference"] > 0, sure and sign * gap["difference"] < 0
    brought = (
        f"from {sizes[-2]:,} to {sizes[-1]:,} training rows {metric.label} went from {values[-2]:.3f} to "
        f"{values[-1]:.3f}, {gap_text(gap)}, p = {gap['p']:.4f}"
    )
    if not told:
        word = "No" if falling else "Probably" if rising else "Unclear"
        return word, f"{word}: {brought}; what doubling the rows would change cannot be told: {more.why}."
    if most <= worth:
        word = "Hardly" if not falling and (rising or least > 0) else "No"
        if not sure and sign * gap["difference"] > worth:  # the last step alone points further up than the law
            word = "Unclear"
        bring = f"next to nothing, {sign * most:+.3f} at best"
    elif least > 0:
        word = "No" if falling else "Yes" if rising else "Probably" if sign * gap["difference"] >= 0 else "Unclear"
        bring = f"about {more.change:+.3f}, and anything from {more.low:+.3f} to {more.high:+.3f} fits the points"
    else:
        word = "No" if falling else "Probably" if rising else "Unclear"
        bring = (
            f"perhaps {more.change:+.3f}, but nothing at all fits the points as well, as does anything from "
            f"{more.low:+.3f} to {more.high:+.3f}"
        )
    return word, f"{word}: {brought}; if the curve goes on like this, doubling the rows would change it by {bring}."
