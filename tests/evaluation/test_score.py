import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from burnish.errors import DataError
from burnish.evaluation.score import Interval, Scores, cluster_totals, interval, unseen_share, wilson


def scores_of(values, groups=None) -> Scores:
    values = tuple(map(float, values))
    ids = tuple(f"q{row}" for row in range(len(values)))
    return Scores("nDCG@10", ids, values, tuple(groups) if groups is not None else ("",) * len(values))


def test_the_interval_holds_the_mean_and_narrows_with_more_examples():
    values = np.random.default_rng(0).random(400)
    few, many = interval(scores_of(values[:50])), interval(scores_of(values))
    assert few.value == pytest.approx(values[:50].mean())
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    assert (few.n, many.n) == (50, 400)


def test_the_interval_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(1).beta(1, 3, size=60)
    theirs = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2))
    ours = interval(scores_of(values))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.005)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    scores = scores_of(np.random.default_rng(3).random(30))
    assert interval(scores, seed=7) == interval(scores, seed=7)
    assert interval(scores, seed=7) != interval(scores, seed=8)


def test_copies_within_a_group_do_not_narrow_the_interval():
    values = np.random.default_rng(4).random(30)
    groups = [f"module {row}" for row in range(30)]
    once = interval(scores_of(values, groups))
    copied = interval(scores_of(np.repeat(values, 9), np.repeat(groups, 9)))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert copied.n == 270


def test_a_cluster_weighs_as_much_as_it_has_examples():
    sums, counts = cluster_totals(np.array([1.0, 0.5, 0.25, 1.0, 0.0]), ["a", "", "a", "", "b"])
    assert sums.tolist() == [1.25, 0.5, 1.0, 0.0]
    assert counts.tolist() == [2, 1, 1, 1]
    scores = scores_of([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert interval(scores).value == 0.75


def test_a_proportion_without_clusters_gets_wilsons_interval():
    assert interval(scores_of([1] * 3 + [0] * 37)) == wilson(3, 40)


def test_a_proportion_with_clusters_is_resampled_by_cluster():
    groups = [f"g{row // 4}" for row in range(80)]
    values = [row // 4 % 2 for row in range(80)]
    clustered, plain = interval(scores_of(values, groups)), interval(scores_of(values))
    assert clustered.high - clustered.low > 1.7 * (plain.high - plain.low)


def test_scores_that_do_not_vary_do_not_claim_certainty():
    nothing_right = interval(scores_of([0.0] * 40, [f"g{row // 2}" for row in range(40)]))
    assert (nothing_right.low, nothing_right.high) == (0.0, wilson(0, 20).high)
    always_half = interval(scores_of([0.5] * 20))
    share = unseen_share(20)
    assert (always_half.low, always_half.high) == pytest.approx((0.5 - share / 2, 0.5 + share / 2))


def test_one_cluster_says_nothing_about_others():
    assert interval(scores_of([0.25, 0.75], ["a", "a"])) == Interval(0.5, 0.0, 1.0, 2)
    assert interval(scores_of([1.0])) == Interval(1.0, 0.0, 1.0, 1)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 40), (3, 40), (20, 40), (40, 40), (812, 1000)])
def test_wilson_agrees_with_scipy(successes, n):
    theirs = binomtest(successes, n).proportion_ci(method="wilson")
    ours = wilson(successes, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert (ours.value, ours.n) == (successes / n, n)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(DataError, match=f"{successes} successes in {n} trials"):
        wilson(successes, n)


def test_no_example_is_an_error():
    with pytest.raises(DataError, match="nDCG@10: there is no example"):
        interval(scores_of([]))


def test_a_score_that_is_no_number_is_named_by_its_example():
    with pytest.raises(DataError, match="the score of example 'q1' is nan"):
        scores_of([0.5, float("nan")])


def test_an_example_scored_twice_is_named():
    with pytest.raises(DataError, match="example 'b' is scored twice"):
        Scores("accuracy", ("a", "b", "b"), (1.0, 1.0, 0.0), ("", "", ""))


def test_each_example_needs_id_score_and_group():
    with pytest.raises(DataError, match="2 ids, 1 scores and 2 groups"):
        Scores("accuracy", ("a", "b"), (1.0,), ("", ""))


def test_memory_is_bounded():
    scores = scores_of(np.random.default_rng(5).random(20_000))
    tracemalloc.start()
    interval(scores, resamples=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_intervals_hold_the_true_mean_in_95_percent_of_samples():
    random = np.random.default_rng(6)
    held = 0
    for _ in range(1000):
        found = interval(scores_of(random.beta(1, 3, size=100)), resamples=1000)
        held += found.low <= 0.25 <= found.high
    assert 0.93 <= held / 1000 <= 0.97


def test_wilsons_intervals_hold_a_small_share_in_95_percent_of_samples():
    random = np.random.default_rng(7)
    found = [interval(scores_of(random.random(100) < 0.04)) for _ in range(1000)]
    assert 0.93 <= np.mean([each.low <= 0.04 <= each.high for each in found]) <= 0.98


def test_intervals_of_clustered_scores_hold_the_true_mean_where_plain_ones_fail():
    random = np.random.default_rng(8)
    held = {"clusters": 0, "examples": 0}
    for _ in range(1000):
        sizes = random.integers(1, 10, size=60)
        groups = np.repeat([f"g{row}" for row in range(60)], sizes)
        values = np.repeat(random.beta(2, 2, size=60), sizes) * 0.8 + random.random(sizes.sum()) * 0.2
        for kind, names in (("clusters", groups), ("examples", None)):
            found = interval(scores_of(values, names), resamples=400)
            held[kind] += found.low <= 0.5 <= found.high
    assert 0.92 <= held["clusters"] / 1000 <= 0.97
    assert held["examples"] / 1000 < 0.75
