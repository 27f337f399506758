import tracemalloc
from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import f1_score

from burnish.errors import DataError
from burnish.evaluation.compare import compare
from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.evaluation.score import Interval, Scores, interval, unseen_share
from burnish.metrics import Floats, Metric
from burnish.metrics.accuracy import Accuracy
from burnish.metrics.bleu import Bleu
from burnish.metrics.f1 import F1
from burnish.metrics.mcc import Mcc
from burnish.metrics.pearson import Pearson
from burnish.metrics.perplexity import Perplexity
from burnish.metrics.reward_margin import RewardMargin
from burnish.metrics.rmse import Rmse
from burnish.metrics.spearman import Spearman


class Given(Metric):
    """The mean of the predictions themselves."""

    @property
    def label(self) -> str:
        return "given"

    def score(self, predictions: Sequence[float], references: Sequence[Any]) -> list[float]:
        return list(predictions)


class Disguised(Given):
    """The same mean, which does not show that it is one."""

    def combine(self, totals: Floats) -> Floats:
        return totals[..., 0] / totals[..., 1]


class Cost(Given):
    """A mean of scores where lower is better."""

    higher_is_better: ClassVar[bool] = False


def alone(size: int) -> list[str]:
    """Return groups in which every example is a cluster of its own."""
    return [""] * size


def scores(values, groups) -> Scores:
    return Scores("given", tuple(map(str, range(len(values)))), tuple(map(float, values)), tuple(groups))


def draw_labels(random: np.random.Generator, size: int, *, right: float) -> tuple[list[str], list[str]]:
    true = random.choice(list("abc"), size=size)
    return np.where(random.random(size) < right, true, random.choice(list("abc"), size=size)).tolist(), true.tolist()


def test_a_mean_of_scores_gets_the_interval_and_the_comparison_that_it_always_had():
    ours, theirs = np.random.default_rng(0).random((2, 40)).tolist()
    groups = [f"g{row // 2}" for row in range(40)]
    found = metric_interval(Given(), ours, ours, groups=groups, seed=3)
    assert found == interval(scores(ours, groups), seed=3, resamples=2_000)
    versus = metric_difference(Given(), ours, theirs, ours, groups=groups, seed=3, resamples=500)
    assert versus == compare(scores(ours, groups), scores(theirs, groups), seed=3, resamples=500)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_mean_that_goes_through_sums_gets_the_same_interval_and_p_value(clustered):
    random = np.random.default_rng(1)
    ours, theirs = random.beta(2, 2, size=60), random.beta(2, 2.4, size=60)
    groups = [f"g{row // 3}" if clustered else "" for row in range(60)]
    plain, summed = (metric_interval(kind(), list(ours), list(ours), groups=groups) for kind in (Given, Disguised))
    assert (summed.value, summed.n) == (pytest.approx(plain.value), plain.n)
    assert (summed.low, summed.high) == pytest.approx((plain.low, plain.high), abs=0.004)
    one, other = (
        metric_difference(kind(), list(ours), list(theirs), list(ours), groups=groups, resamples=8_000)
        for kind in (Given, Disguised)
    )
    assert other.difference == pytest.approx(one.difference)
    assert (other.low, other.high, other.p) == pytest.approx((one.low, one.high, one.p), abs=0.012)
    assert (other.n, other.wins, other.ties, other.losses) == (one.n, one.wins, one.ties, one.losses)


def test_few_clusters_are_swapped_exactly_as_a_mean_flips_them():
    ours, theirs = np.random.default_rng(2).random((2, 18)).tolist()
    groups = [f"g{row // 2}" for row in range(18)]
    one, other = (metric_difference(kind(), ours, theirs, ours, groups=groups) for kind in (Given, Disguised))
    assert other.p == one.p


def test_the_interval_of_bleu_agrees_with_resampled_corpora():
    random = np.random.default_rng(3)
    words = ["red", "green", "blue", "cat", "dog", "bird"]
    right = [[" ".join(random.choice(words, size=8))] for _ in range(40)]
    said = [" ".join(w if random.random() < 0.75 else "x" for w in answers[0].split()) for answers in right]
    found = metric_interval(Bleu(), said, right, groups=alone(40))
    drawn = random.integers(40, size=(400, 40))
    theirs = [
        sacrebleu.corpus_bleu([said[row] for row in rows], [[right[row][0] for row in rows]]).score for rows in drawn
    ]
    assert found.value == pytest.approx(sacrebleu.corpus_bleu(said, [[r[0] for r in right]]).score)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(theirs, (0.025, 0.975))), abs=1.5)


def test_the_p_value_of_f1_is_the_share_of_all_swaps_that_differ_as_much():
    random = np.random.default_rng(4)
    ours, right = draw_labels(random, 18, right=0.8)
    theirs = draw_labels(random, 18, right=0.0)[0]
    groups = [f"g{row // 3}" for row in range(18)]

    def gap(swaps: Sequence[int]) -> float:
        swapped = np.repeat(swaps, 3).astype(bool)
        one, other = np.where(swapped, theirs, ours), np.where(swapped, ours, theirs)
        return f1_score(right, one, average="macro") - f1_score(right, other, average="macro")

    gaps = np.abs([gap(swaps) for swaps in product((0, 1), repeat=6)])
    found = metric_difference(F1(), ours, theirs, right, groups=groups)
    assert found.p == pytest.approx(np.mean(gaps >= gaps[0] - 1e-9))
    assert found.difference == pytest.approx(gap([0] * 6))
    assert (found.wins, found.ties + found.wins + found.losses) == (
        sum(a == t != b for a, b, t in zip(ours, theirs, right, strict=True)),
        18,
    )


@pytest.mark.parametrize("metric", [F1(), Mcc(), Pearson(), Spearman(), Rmse()], ids=lambda metric: metric.kind)
def test_copies_within_a_group_are_no_further_evidence(metric):
    random = np.random.default_rng(5)
    ours, theirs, right = random.integers(4, size=(3, 30)).astype(float)
    if isinstance(metric, F1 | Mcc):
        ours, theirs, right = ours.astype(str), theirs.astype(str), right.astype(str)
    groups = [f"g{row}" for row in range(30)]
    once = metric_difference(metric, list(ours), list(theirs), list(right), groups=groups)
    nine = [list(np.repeat(values, 9)) for values in (ours, theirs, right, groups)]
    copied = metric_difference(metric, *nine[:3], groups=nine[3])
    assert (copied.low, copied.high, copied.p) == pytest.approx((once.low, once.high, once.p))
    one, many = (
        metric_interval(metric, list(ours), list(right), groups=groups),
        metric_interval(metric, nine[0], nine[2], groups=nine[3]),
    )
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_where_lower_is_better_a_negative_difference_says_that_ours_is():
    right = np.random.default_rng(6).normal(size=50)
    ours, theirs = (right + 0.1).tolist(), (right + 0.5).tolist()
    found = metric_difference(Rmse(), ours, theirs, right.tolist(), groups=alone(50))
    assert found.difference == pytest.approx(-0.4)
    assert (found.wins, found.losses) == (50, 0)
    costs = metric_difference(Cost(), [0.1, 0.2, 0.5], [0.4, 0.3, 0.5], [0] * 3, groups=alone(3))
    assert costs.difference == pytest.approx(-0.4 / 3)
    assert (costs.wins, costs.ties, costs.losses) == (2, 1, 0)


def test_swapping_the_systems_turns_the_difference_around():
    random = np.random.default_rng(7)
    ours, right = draw_labels(random, 12, right=0.7)
    theirs = draw_labels(random, 12, right=0.0)[0]
    forth = metric_difference(Mcc(), ours, theirs, right, groups=alone(12))
    back = metric_difference(Mcc(), theirs, ours, right, groups=alone(12))
    assert (back.difference, back.p) == pytest.approx((-forth.difference, forth.p))
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert (back.wins, back.losses) == (forth.losses, forth.wins)


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    ours, theirs, right = np.random.default_rng(8).normal(size=(3, 40)).tolist()
    same = [metric_difference(Rmse(), ours, theirs, right, groups=alone(40), seed=1) for _ in range(2)]
    assert same[0] == same[1] != metric_difference(Rmse(), ours, theirs, right, groups=alone(40), seed=2)
    assert metric_interval(Rmse(), ours, right, groups=alone(40), seed=1) != metric_interval(
        Rmse(), ours, right, groups=alone(40), seed=2
    )


def test_values_that_do_not_vary_do_not_claim_certainty():
    texts = ["a cat sat on the mat"] * 20
    found = metric_interval(Bleu(), texts, [[text] for text in texts], groups=alone(20))
    assert (found.value, found.high) == pytest.approx((100, 100))
    assert found.low == pytest.approx(100 - 100 * unseen_share(20))
    assert metric_interval(Mcc(), ["a", "b"], ["a", "b"], groups=["g", "g"]) == Interval(1.0, -1.0, 1.0, 2)


def test_a_system_does_not_differ_from_itself_yet_may_elsewhere():
    right = np.random.default_rng(9).normal(size=20).tolist()
    said = [number + 0.1 * place for place, number in enumerate(right)]
    same = metric_difference(Spearman(), said, said, right, groups=alone(20))
    assert (same.difference, same.p, same.ties) == (0, 1, 20)
    assert (same.low, same.high) == pytest.approx((-2 * unseen_share(20), 2 * unseen_share(20)))
    unbounded = metric_difference(Rmse(), said, said, right, groups=alone(20))
    assert (unbounded.low, unbounded.high) == pytest.approx((-1.9 * unseen_share(20), 1.9 * unseen_share(20)))


def test_a_resample_on_which_a_correlation_is_not_defined_may_lie_anywhere():
    found = metric_interval(Pearson(), [1, 2, 3], [1, 2, 4], groups=alone(3))
    assert (found.low, found.high) == (-1, 1)
    versus = metric_difference(Pearson(), [1, 2, 3], [3, 1, 2], [1, 2, 4], groups=alone(3))
    assert (versus.low, versus.high) == (-2, 2)


def test_where_no_finite_interval_can_be_given_the_error_says_so():
    with pytest.raises(DataError, match=r"RMSE is 0 on every resample of 5 clusters, and it has no bound of its own"):
        metric_interval(Rmse(), [1] * 5, [1] * 5, groups=alone(5))
    with pytest.raises(DataError, match=r"perplexity is 2\.71828 on every resample of 1 cluster, and"):
        metric_interval(Perplexity(), [(1, 1), (2, 2)], [None] * 2, groups=["g", "g"])
    with pytest.raises(DataError, match=r"RMSE differs by -1 on every resample of 1 cluster, and it has no bound"):
        metric_difference(Rmse(), [1, 2], [2, 3], [1, 2], groups=["g", "g"])
    with pytest.raises(DataError, match=r"RMSE differs by 0 on every resample of 2 clusters"):
        metric_difference(Rmse(), [1, 2], [1, 2], [1, 2], groups=alone(2))


class Picky(Given):
    """A mean that is defined from two different numbers on, and has no bounds."""

    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def combine(self, totals: Floats) -> Floats:
        return np.where(totals[..., 0] % 1 == 0, np.nan, totals[..., 0] / totals[..., 1])


def test_a_metric_that_is_not_defined_is_an_error():
    with pytest.raises(DataError, match=r"given is not defined on these 2 examples \(found nan\)"):
        metric_interval(Picky(), [0.5, 0.5], [0, 0], groups=alone(2))
    with pytest.raises(DataError, match="given is not defined for theirs on these 2 examples"):
        metric_difference(Picky(), [0.5, 0.25], [1, 1], [0, 0], groups=alone(2))
    with pytest.raises(DataError, match=r"given is not defined on \d+ of 2000 resamples, and it has no bound"):
        metric_interval(Picky(), [0.5, 0.5, 0.5], [0] * 3, groups=["a", "a", "b"])


def test_examples_and_groups_must_fit():
    with pytest.raises(DataError, match="macro F1: there is no example to score"):
        metric_interval(F1(), [], [], groups=[])
    with pytest.raises(DataError, match="accuracy: 2 examples and 1 groups; each example needs one"):
        metric_interval(Accuracy(), ["a", "b"], ["a", "b"], groups=["x"])
    with pytest.raises(DataError, match="1 predictions of ours, 2 of theirs and 2 references"):
        metric_difference(F1(), ["a"], ["a", "b"], ["a", "b"], groups=alone(2))


def test_memory_is_bounded():
    said, right = draw_labels(np.random.default_rng(10), 10_000, right=0.5)
    tracemalloc.start()
    metric_interval(F1(), said, right, groups=alone(10_000), resamples=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6


def test_intervals_of_macro_f1_hold_the_true_one_in_95_percent_of_samples():
    random = np.random.default_rng(11)
    held = 0
    for _ in range(500):
        said, right = draw_labels(random, 100, right=0.6)
        found = metric_interval(F1(), said, right, groups=alone(100), resamples=300)
        held += found.low <= 0.6 + 0.4 / 3 <= found.high  # the classes are alike, so each has this F1
    assert 0.92 <= held / 500 <= 0.97


def test_clustered_chance_is_called_significant_in_5_percent_of_samples():
    random = np.random.default_rng(12)
    found = []
    for _ in range(400):
        sizes = random.integers(1, 7, size=25)
        groups = np.repeat([f"g{row}" for row in range(25)], sizes)
        ours, theirs = (np.repeat(random.normal(size=25), sizes) + random.normal(size=sizes.sum()) for _ in range(2))
        right = np.zeros(sizes.sum())
        versus = metric_difference(Rmse(), list(ours), list(theirs), list(right), groups=list(groups), resamples=199)
        found.append(versus.p)
    assert 0.025 <= np.mean(np.array(found) <= 0.05) <= 0.075


def test_a_model_against_itself_has_a_margin_that_no_other_row_would_change():
    metric, rows = RewardMargin(), ["right"] * 4
    assert metric_interval(metric, [0.0] * 4, rows, groups=[""] * 4) == Interval(0.0, 0.0, 0.0, 4)
    same = metric_difference(metric, [0.0] * 4, [0.0] * 4, rows, groups=[""] * 4)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    gained = metric_difference(metric, [1.0, 2.0, 0.5, -0.2], [0.0] * 4, rows, groups=[""] * 4)
    assert gained.low < gained.difference < gained.high
    with pytest.raises(DataError, match="it has no bound of its own"):
        metric_interval(metric, [0.5] * 4, rows, groups=[""] * 4)
