import numpy as np
import pytest
from scipy.stats import pearsonr

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.pearson import Pearson


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e9, 1), (-3, 1e200), (0, 1e-200), (1e6, 1e-3)])
def test_it_equals_scipy_at_any_offset_and_scale(offset, scale):
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    said = offset * scale + x * scale
    assert Pearson().value(said.tolist(), (x + y).tolist()) == pytest.approx(pearsonr(x, x + y).statistic, abs=1e-6)


def test_every_resample_gets_what_scipy_says_of_it():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(2, 10)) + 7
    drawn = random.integers(10, size=(20, 10))
    sums = Pearson().statistics(x.tolist(), y.tolist())[drawn].sum(axis=1)
    assert Pearson().combine(sums) == pytest.approx([pearsonr(x[rows], y[rows]).statistic for rows in drawn])


def test_a_line_up_scores_one_and_a_line_down_minus_one():
    assert Pearson().value([1, 2, 4], [10, 20, 40]) == pytest.approx(1)
    assert Pearson().value([1, 2, 4], [-1, -2, -4]) == pytest.approx(-1)


def test_two_systems_are_shifted_and_scaled_alike():
    random = np.random.default_rng(3)
    ours, theirs, right = random.normal(size=(3, 20)) * [[5], [1], [1]] + [[100], [0], [3]]
    mine, other = Pearson().paired_statistics(ours.tolist(), theirs.tolist(), right.tolist())
    swapped = Pearson().combine(mine[:10].sum(axis=0) + other[10:].sum(axis=0))
    assert swapped == pytest.approx(pearsonr(np.r_[ours[:10], theirs[10:]], right).statistic)
    assert Pearson().combine(mine.sum(axis=0)) == pytest.approx(pearsonr(ours, right).statistic)


def test_a_resample_without_variation_is_not_a_number():
    statistics = Pearson().statistics([1, 2, 3], [5, 5, 6])
    assert np.isnan(Pearson().combine(statistics[[0, 0, 0]].sum(axis=0)))
    assert np.isnan(Pearson().combine(statistics[[0, 1, 1]].sum(axis=0)))


def test_equal_numbers_are_refused_by_side():
    with pytest.raises(DataError, match=r"Pearson r is not defined: the predictions are all 0\.3 on 3 examples"):
        Pearson().value([0.3] * 3, [1, 2, 3])
    with pytest.raises(DataError, match="the references are all 2 on 3 examples, and a correlation needs"):
        Pearson().value([1, 3, 5], [2, 2, 2])
    with pytest.raises(DataError, match="their predictions are all 4 on 3 examples"):
        Pearson().paired_statistics([1, 2, 3], [4, 4, 4], [1, 2, 3])


def test_what_is_no_number_is_named_by_its_place():
    with pytest.raises(DataError, match="Pearson r: prediction 2 of 3 is nan; a finite number is needed"):
        Pearson().value([1, float("nan"), 3], [1, 2, 3])
    with pytest.raises(DataError, match="reference 3 of 3 is inf"):
        Pearson().value([1, 2, 3], [1, 2, float("inf")])


def test_no_numbers_have_no_statistics_and_its_label_is_the_name_of_the_field():
    assert Pearson().statistics([], []).shape == (0, 6)
    assert Metric.read("pearson").label == "Pearson r"
