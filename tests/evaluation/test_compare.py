import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_rel

from burnish.errors import DataError
from burnish.evaluation.compare import Difference, compare, holm, smallest_detectable
from burnish.evaluation.score import Scores, unseen_share


def scores_of(values, groups=None, *, metric="MRR@10", ids=None) -> Scores:
    values = tuple(map(float, values))
    names = tuple(ids) if ids is not None else tuple(f"q{row}" for row in range(len(values)))
    return Scores(metric, names, values, tuple(groups) if groups is not None else ("",) * len(values))


def test_three_wins_of_the_same_size_have_two_of_eight_flips_as_extreme():
    found = compare(scores_of([1, 1, 1]), scores_of([0, 0, 0]))
    assert found.p == 0.25
    assert (found.difference, found.n, found.wins, found.ties, found.losses) == (1.0, 3, 3, 0, 0)


def test_wins_ties_and_losses_are_counted():
    found = compare(scores_of([1, 0.5, 0.5, 0, 0.3]), scores_of([0, 0.5, 0.25, 1, 0.1 + 0.2]))
    assert (found.wins, found.ties, found.losses) == (2, 2, 1)
    assert found.difference == pytest.approx(0.05)
    assert found.low <= found.difference <= found.high


@pytest.mark.parametrize("seed", range(5))
def test_the_exact_p_value_agrees_with_scipy(seed):
    ours, theirs = np.random.default_rng(seed).random((2, 9))
    exact = permutation_test(
        (ours, theirs), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert compare(scores_of(ours), scores_of(theirs)).p == pytest.approx(exact.pvalue)


def test_the_random_flips_agree_with_the_t_test_on_many_examples():
    random = np.random.default_rng(10)
    ours = random.random(300)
    theirs = ours - 0.02 + random.normal(scale=0.2, size=300)
    found = compare(scores_of(ours), scores_of(theirs))
    assert found.p == pytest.approx(ttest_rel(ours, theirs).pvalue, abs=0.015)


def test_the_p_value_is_never_zero():
    found = compare(scores_of([1.0] * 100), scores_of([0.0] * 50 + [0.5] * 50), resamples=999)
    assert found.p == 1 / 1000


def test_swapping_the_systems_turns_the_difference_around():
    random = np.random.default_rng(11)
    one, other = scores_of(random.random(12)), scores_of(random.random(12))
    forth, back = compare(one, other), compare(other, one)
    assert (back.difference, back.p) == pytest.approx((-forth.difference, forth.p))
    assert (back.wins, back.losses) == (forth.losses, forth.wins)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=0.01)


def test_a_system_does_not_differ_from_itself_yet_may_elsewhere():
    scores = scores_of([0.1, 0.9, 0.5, 0.5])
    share = unseen_share(4)
    assert compare(scores, scores) == Difference(0.0, -share, share, 1.0, 4, 0, 4, 0)


def test_one_cluster_proves_nothing():
    found = compare(scores_of([1.0] * 50, ["a"] * 50), scores_of([0.0] * 50, ["a"] * 50))
    assert (found.p, found.low, found.high) == (1.0, -1.0, 1.0)


def test_copies_within_a_group_are_no_further_evidence():
    random = np.random.default_rng(12)
    ours, theirs, groups = random.random(12), random.random(12), [f"g{row}" for row in range(12)]
    once = compare(scores_of(ours, groups), scores_of(theirs, groups))
    nine = np.repeat(groups, 9)
    copied = compare(scores_of(np.repeat(ours, 9), nine), scores_of(np.repeat(theirs, 9), nine))
    assert (copied.p, copied.low, copied.high) == pytest.approx((once.p, once.low, once.high))


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    random = np.random.default_rng(13)
    one, other = scores_of(random.random(40)), scores_of(random.random(40))
    assert compare(one, other, seed=1) == compare(one, other, seed=1)
    assert compare(one, other, seed=1) != compare(one, other, seed=2)


def test_examples_are_paired_by_id_not_by_place():
    ours = scores_of([0.1, 0.2, 0.9], ids=["a", "b", "c"])
    turned = scores_of([0.8, 0.2, 0.0], ids=["c", "b", "a"])
    straight = scores_of([0.0, 0.2, 0.8], ids=["a", "b", "c"])
    assert compare(ours, turned) == compare(ours, straight)


def test_different_examples_are_refused_with_the_first_of_them():
    ours = scores_of([0] * 6, ids=["a", "b", "c", "d", "e", "z"])
    theirs = scores_of([0] * 2, ids=["z", "y"])
    with pytest.raises(DataError, match=r"5 \('a', 'b', 'c', …\) only in ours, 1 \('y'\) only in theirs, 1 in both"):
        compare(ours, theirs)
    with pytest.raises(DataError, match=r"none only in ours, 4 \('b', 'c', 'd', …\) only in theirs, 2 in both"):
        smallest_detectable(scores_of([0] * 2, ids=["a", "z"]), ours)


def test_different_metrics_are_refused():
    with pytest.raises(DataError, match=r"MRR@10 cannot be compared with nDCG@10"):
        compare(scores_of([1]), scores_of([1], metric="nDCG@10"))


def test_different_groups_are_refused():
    with pytest.raises(DataError, match=r"example 'q1' is of group 'x' in ours and 'y' in theirs"):
        compare(scores_of([1, 1], ["", "x"]), scores_of([1, 1], ["", "y"]))


def test_no_example_is_an_error():
    with pytest.raises(DataError, match="no example to compare"):
        compare(scores_of([]), scores_of([]))


def test_holm_is_the_hand_made_value_in_the_order_given():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_never_lowers_a_p_value_nor_exceeds_one():
    assert holm([0.04]) == [0.04]
    assert holm([0.6, 0.9, 0.5]) == [1.0, 1.0, 1.0]
    assert holm([0.02, 0.02]) == [0.04, 0.04]
    assert holm([]) == []


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(DataError, match=r"lies outside 0…1"):
        holm([0.5, p])


def test_the_smallest_detectable_difference_is_the_hand_made_value():
    ours, theirs = scores_of([0.1, 0.2, 0.3, 0.4]), scores_of([0.0] * 4)
    error = np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2
    assert smallest_detectable(ours, theirs) == pytest.approx((1.959964 + 0.841621) * error, rel=1e-6)


def test_copies_within_a_group_do_not_make_smaller_differences_detectable():
    values, groups = np.array([0.1, 0.2, 0.3, 0.4]), np.array(["a", "b", "c", "d"])
    once = smallest_detectable(scores_of(values, groups), scores_of(np.zeros(4), groups))
    nine = np.repeat(groups, 9)
    copied = smallest_detectable(scores_of(np.repeat(values, 9), nine), scores_of(np.zeros(36), nine))
    assert copied == pytest.approx(once)


def test_without_variation_the_smallest_detectable_difference_is_not_zero():
    scores = scores_of([0.5] * 30)
    assert smallest_detectable(scores, scores) == unseen_share(30)
    assert smallest_detectable(scores_of([1.0]), scores_of([0.0])) == 1.0


def test_the_smallest_detectable_difference_is_found_in_80_percent_of_samples():
    random = np.random.default_rng(14)
    zeros, effect = scores_of(np.zeros(60)), (1.959964 + 0.841621) * 0.3 / np.sqrt(60)
    found = [compare(scores_of(random.normal(effect, 0.3, size=60)), zeros, resamples=400).p for _ in range(1000)]
    assert 0.75 <= np.mean(np.array(found) < 0.05) <= 0.84


def test_chance_alone_is_called_significant_in_5_percent_of_samples():
    random = np.random.default_rng(15)
    found = []
    for _ in range(2000):
        ours, theirs = random.beta(1, 3, size=(2, 50))
        found.append(compare(scores_of(ours), scores_of(theirs), resamples=399).p)
    assert 0.035 <= np.mean(np.array(found) < 0.05) <= 0.065


def test_clustered_chance_is_called_significant_in_5_percent_of_samples_and_more_often_without_clusters():
    random = np.random.default_rng(16)
    found = {"clusters": [], "examples": []}
    for _ in range(1500):
        sizes = random.integers(1, 9, size=25)
        gaps = np.repeat(random.normal(scale=0.1, size=25), sizes) + random.normal(scale=0.1, size=sizes.sum())
        for kind, groups in (("clusters", np.repeat([f"g{row}" for row in range(25)], sizes)), ("examples", None)):
            ours, theirs = scores_of(0.5 + gaps, groups), scores_of(np.full(len(gaps), 0.5), groups)
            found[kind].append(compare(ours, theirs, resamples=399).p)
    assert 0.035 <= np.mean(np.array(found["clusters"]) < 0.05) <= 0.067
    assert np.mean(np.array(found["examples"]) < 0.05) > 0.12


def test_intervals_of_the_difference_hold_the_true_one_in_95_percent_of_samples():
    random = np.random.default_rng(17)
    held = 0
    for _ in range(1000):
        sizes = random.integers(1, 5, size=60)
        groups = np.repeat([f"g{row}" for row in range(60)], sizes)
        gaps = np.repeat(random.normal(0.1, 0.2, size=60), sizes) + random.normal(scale=0.1, size=sizes.sum())
        found = compare(scores_of(gaps, groups), scores_of(np.zeros(len(gaps)), groups), resamples=400)
        held += found.low <= 0.1 <= found.high
    assert 0.92 <= held / 1000 <= 0.97
