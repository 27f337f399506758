import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from burnish.errors import DataError
from burnish.evaluation.confusion import confusion


def test_it_equals_scikit_learn_with_rows_for_the_right_label():
    random = np.random.default_rng(1)
    said, right = random.choice(["a", "b", "c"], size=(2, 50)).tolist()
    labels = ["c", "never", "a", "b"]
    found = confusion(said, right, labels)
    assert found.tolist() == confusion_matrix(right, said, labels=labels).tolist()
    assert found.dtype == np.int64


def test_one_right_and_one_wrong_label_stand_where_they_belong():
    assert confusion(["x", "y"], ["x", "x"], ["x", "y"]).tolist() == [[1, 1], [0, 0]]
    assert confusion([], [], ["x"]).tolist() == [[0]]


def test_a_label_that_is_none_of_them_is_named_with_the_nearest():
    with pytest.raises(
        DataError,
        match=r"prediction 2 of 2: 'bilings' is not one of the labels \[billing, delivery\]\. Did you mean 'bi",
    ):
        confusion(["billing", "bilings"], ["billing", "billing"], ["billing", "delivery"])
    with pytest.raises(DataError, match="reference 1 of 1: 'z' is not one of"):
        confusion(["a"], ["z"], ["a"])
