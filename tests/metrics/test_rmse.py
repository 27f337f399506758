import numpy as np
import pytest
from sklearn.metrics import root_mean_squared_error

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.rmse import Rmse


def test_it_equals_scikit_learn():
    said, right = np.random.default_rng(1).normal(size=(2, 50))
    theirs = root_mean_squared_error(right, said)
    assert Rmse().value(said.tolist(), right.tolist()) == pytest.approx(theirs)


def test_it_is_the_hand_made_value():
    assert Rmse().value([1, 2, 3], [1, 2, 3]) == 0
    assert Rmse().value([3, 0], [0, 4]) == pytest.approx((25 / 2) ** 0.5)


def test_what_is_no_number_or_cannot_be_squared_is_refused():
    with pytest.raises(DataError, match="RMSE: prediction 1 of 1 is nan"):
        Rmse().value([float("nan")], [0])
    with pytest.raises(DataError, match="RMSE: the errors are too large to square"):
        Rmse().value([1e200], [0])


def test_lower_is_better_and_its_label_is_the_name_of_the_field():
    assert not Rmse.higher_is_better
    assert Rmse().statistics([], []).shape == (0, 2)
    assert Metric.read("rmse").label == "RMSE"
