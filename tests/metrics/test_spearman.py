import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.spearman import Spearman


@pytest.mark.parametrize(("values", "size"), [(1000, 50), (5, 50), (2, 9), (3, 4)])
def test_it_equals_scipy_with_and_without_ties(values, size):
    said, right = np.random.default_rng(values).integers(values, size=(2, size)).astype(float)
    assert Spearman().value(said.tolist(), right.tolist()) == pytest.approx(spearmanr(said, right).statistic)


def test_only_the_order_matters():
    assert Spearman().value([1, 2, 1e300], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert Spearman().value([3, 2, 1], [0, 1, 100]) == pytest.approx(-1)


def test_a_resample_keeps_the_ranks_of_the_whole_sample():
    random = np.random.default_rng(4)
    said, right = random.integers(6, size=(2, 15)).astype(float)
    rows = random.integers(15, size=15)
    sums = Spearman().statistics(said.tolist(), right.tolist())[rows].sum(axis=0)
    assert Spearman().combine(sums) == pytest.approx(pearsonr(rankdata(said)[rows], rankdata(right)[rows]).statistic)


def test_two_systems_keep_their_own_ranks():
    ours, theirs, right = [1.0, 2.0, 3.0, 9.0], [100.0, 90.0, 300.0, 400.0], [1.0, 2.0, 3.0, 4.0]
    mine, other = Spearman().paired_statistics(ours, theirs, right)
    swapped = Spearman().combine(mine[:2].sum(axis=0) + other[2:].sum(axis=0))
    assert swapped == pytest.approx(1)


def test_equal_numbers_and_what_is_no_number_are_refused():
    with pytest.raises(DataError, match="Spearman ρ is not defined: the predictions are all 7 on 2 examples"):
        Spearman().value([7, 7], [1, 2])
    with pytest.raises(DataError, match="Spearman ρ: reference 1 of 2 is nan"):
        Spearman().value([7, 8], [float("nan"), 2])


def test_no_numbers_have_no_statistics_and_its_label_is_the_name_of_the_field():
    assert Spearman().statistics([], []).shape == (0, 6)
    assert Metric.read("spearman").label == "Spearman ρ"
