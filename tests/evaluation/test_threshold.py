"""A threshold, chosen on rows whose verdict is known."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from burnish.errors import DataError
from burnish.evaluation.threshold import area_under_roc, calibrated


def test_it_stands_halfway_between_what_it_tells_apart() -> None:
    assert calibrated([0.1, 0.2, 0.6, 0.9], [False, False, True, True]) == (pytest.approx(0.4), 1.0)


def test_rare_verdicts_count_as_much_as_frequent_ones() -> None:
    found = calibrated([0.9] * 8 + [0.5, 0.5, 0.1], [True] * 8 + [True, False, False])
    assert found.value == pytest.approx(0.7)
    assert found.balanced_accuracy == pytest.approx((8 / 9 + 1) / 2)


def test_no_other_threshold_is_better() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        right = draw.random(40) < 0.4
        scores = (right * 0.5 + draw.normal(size=40)).round(1)
        found = calibrated(scores.tolist(), right.tolist())
        assert balanced_accuracy_score(right, scores >= found.value) == pytest.approx(found.balanced_accuracy)
        tried = [balanced_accuracy_score(right, scores >= value) for value in np.linspace(-4, 4, 161)]
        assert found.balanced_accuracy >= max(tried) - 1e-12


def test_scores_that_tell_nothing_give_one_half() -> None:
    assert calibrated([0.3, 0.3, 0.3], [True, False, True]).balanced_accuracy == 0.5
    assert calibrated([0.9, 0.1], [False, True]).balanced_accuracy == 0.5


def test_both_verdicts_are_needed() -> None:
    with pytest.raises(DataError, match="of 2 rows 2 are of the one kind"):
        calibrated([0.1, 0.2], [True, True])
    with pytest.raises(DataError, match="of 0 rows 0"):
        calibrated([], [])


def test_the_area_under_roc_is_that_of_scikit_learn_with_ties() -> None:
    draw = np.random.default_rng(0)
    for rows in (2, 7, 200):
        scores = draw.integers(0, 5, size=rows) / 4
        right = draw.permutation([True, *[False] * (rows // 2), *[True] * (rows - rows // 2 - 1)])
        assert area_under_roc([*scores], [*right]) == pytest.approx(roc_auc_score(right, scores), abs=1e-12)
    with pytest.raises(DataError, match="rows of both are needed"):
        area_under_roc([0.1, 0.2], [True, True])
