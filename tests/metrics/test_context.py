"""Context precision and recall of the passages shown, by hand and against a reference formula."""

import random

import pytest

from burnish.errors import DataError
from burnish.metrics import Metric

PRECISION, RECALL = Metric.read("context_precision"), Metric.read("context_recall")


@pytest.mark.parametrize(
    ("shown", "right", "precision", "recall"),
    [
        (["a", "b", "c"], ["a"], 1.0, 1.0),
        (["b", "a", "c"], ["a"], 1 / 2, 1.0),
        (["a", "b", "c"], ["a", "c"], (1 + 2 / 3) / 2, 1.0),
        (["b", "a"], ["a", "d", "e", "f"], 1 / 2, 1 / 4),
        (["b", "c"], ["a"], 0.0, 0.0),
        ([], ["a"], 0.0, 0.0),
    ],
)
def test_golden_values(shown: list[str], right: list[str], precision: float, recall: float) -> None:
    grades = dict.fromkeys(right, 1)
    assert PRECISION.score([shown], [grades]) == [pytest.approx(precision)]
    assert RECALL.score([shown], [grades]) == [pytest.approx(recall)]


def test_the_formula_of_ragas() -> None:
    """Σ_k precision@k · v_k / Σ_k v_k, as ragas' context precision with reference defines it."""
    draw = random.Random(0)
    for _ in range(50):
        shown = draw.sample("abcdefgh", draw.randint(1, 8))
        right = {passage: draw.randint(0, 2) for passage in shown} | {"x": 1}
        v = [float(right[passage] > 0) for passage in shown]
        sums = sum(v)
        expected = sum(sum(v[:k]) / k * v[k - 1] for k in range(1, len(v) + 1)) / sums if sums else 0.0
        assert PRECISION.score([shown], [right]) == [pytest.approx(expected)]


def test_empty_and_undefined() -> None:
    for metric in (PRECISION, RECALL):
        assert metric.score([], []) == []
        with pytest.raises(DataError, match="no passage with a grade of 1 or more"):
            metric.score([["a"]], [{"a": 0}])
