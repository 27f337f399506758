"""Abstaining where there is no answer, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score

from burnish.evaluation.corpus import metric_interval
from burnish.metrics import Metric


def metric(of: str) -> Metric:
    found: Metric = Metric.read({"kind": "abstention", "of": of})
    return found


def test_golden_values() -> None:
    said, could = [True, True, False, False], [False, True, True, False]
    assert metric("accuracy").score(said, could) == [1.0, 0.0, 1.0, 0.0]
    assert metric("precision").value(said, could) == 0.5
    assert metric("recall").value(said, could) == 0.5
    assert metric("accuracy").score([], []) == []


@pytest.mark.parametrize(
    ("of", "reference"), [("accuracy", accuracy_score), ("precision", precision_score), ("recall", recall_score)]
)
def test_they_are_scikit_learns_with_abstaining_as_the_positive_class(of: str, reference: object) -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        said, could = draw.random((2, 30)) < 0.5
        assert callable(reference)
        assert metric(of).value(said.tolist(), could.tolist()) == pytest.approx(reference(~could, said))


def test_nothing_to_share_is_0_and_shares_have_intervals() -> None:
    assert metric("precision").value([False], [True]) == 0.0
    assert metric("recall").value([True], [True]) == 0.0
    found = metric_interval(metric("recall"), [True, False] * 10, [False] * 20, groups=[""] * 20)
    assert found.low < found.value == 0.5 < found.high
    with pytest.raises(NotImplementedError):
        metric("recall").score([True], [False])
