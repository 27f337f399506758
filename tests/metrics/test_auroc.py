"""AUROC against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from burnish.errors import DataError
from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.metrics import Metric
from burnish.metrics.auroc import Auroc

METRIC = Metric.read({"kind": "auroc", "positive": "yes"})


def shares(scores: list[float]) -> list[dict[str, float]]:
    return [{"yes": score, "no": 1 - score} for score in scores]


def test_it_is_the_share_of_pairs_in_the_right_order() -> None:
    assert METRIC.value(shares([0.9, 0.8, 0.2]), ["yes", "yes", "no"]) == 1.0
    assert METRIC.value(shares([0.1, 0.8, 0.2]), ["yes", "yes", "no"]) == 0.5
    assert METRIC.value(shares([0.5, 0.5, 0.2]), ["yes", "no", "no"]) == 0.75
    assert METRIC.statistics([], []).shape[0] == 0


@pytest.mark.parametrize("rows", [50, 3000])
@pytest.mark.parametrize("digits", [1, 9])
def test_it_is_scikit_learns(rows: int, digits: int) -> None:
    draw = np.random.default_rng(rows)
    scores = draw.random(rows).round(digits)
    right = draw.random(rows) < scores
    found = METRIC.value(shares(scores.tolist()), ["yes" if one else "no" for one in right])
    exact = roc_auc_score(right, scores)
    assert found == pytest.approx(exact, abs=5e-4 if rows > 1024 and digits > 3 else 1e-12)


def test_it_has_an_interval_and_a_paired_difference() -> None:
    draw = np.random.default_rng(0)
    right = draw.random(200) < 0.3
    names = ["yes" if one else "no" for one in right]
    good, poor = (shares((right * lift + draw.normal(size=200)).tolist()) for lift in (2.0, 0.2))
    found = metric_interval(METRIC, good, names, groups=[""] * 200)
    assert found.low < found.value < found.high
    gain = metric_difference(METRIC, good, poor, names, groups=[""] * 200)
    assert gain.difference == pytest.approx(METRIC.value(good, names) - METRIC.value(poor, names))
    assert gain.low > 0


def test_the_class_must_be_a_label() -> None:
    with pytest.raises(DataError, match=r"tells nothing of 'yes'.*Labels are: Yes"):
        METRIC.statistics([{"Yes": 1.0}], ["Yes"])
    assert isinstance(METRIC, Auroc)
    with pytest.raises(DataError, match="prediction 1 of 1 is nan"):
        METRIC.statistics([{"yes": float("nan")}], ["yes"])
