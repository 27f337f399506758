"""Balanced accuracy against scikit-learn and by hand."""

import random
import warnings

import pytest
from sklearn.metrics import balanced_accuracy_score

from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.metrics import Metric

METRIC = Metric.read("balanced_accuracy")


def test_each_class_counts_alike() -> None:
    assert METRIC.value(["a"] * 10, ["a"] * 9 + ["b"]) == 0.5
    assert METRIC.value(["a", "a", "b", "c"], ["a", "b", "b", "c"]) == pytest.approx((1 + 0.5 + 1) / 3)
    assert METRIC.value(["a", "b"], ["a", "b"]) == 1.0
    assert METRIC.statistics([], []).shape[0] == 0


def test_it_is_scikit_learns() -> None:
    draw = random.Random(0)
    for _ in range(20):
        right = [draw.choice("abc") for _ in range(30)]
        said = [draw.choice("abcd") for _ in range(30)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of predictions that are no reference
            assert METRIC.value(said, right) == pytest.approx(balanced_accuracy_score(right, said))


def test_it_has_an_interval_and_a_paired_difference() -> None:
    right = ["a"] * 30 + ["b"] * 10
    good, poor = [*right[:-2], "a", "a"], ["a"] * 40
    found = metric_interval(METRIC, good, right, groups=[""] * 40)
    assert found.low < found.value == 0.9 < found.high
    gain = metric_difference(METRIC, good, poor, right, groups=[""] * 40)
    assert gain.difference == pytest.approx(0.4)
    assert gain.low > 0
