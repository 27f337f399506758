import pytest

from burnish.metrics import Metric
from burnish.metrics.accuracy import Accuracy


def test_a_label_is_right_or_wrong():
    assert Accuracy().score(["billing", "delivery", "Billing"], ["billing", "billing", "billing"]) == [1.0, 0.0, 0.0]


def test_no_labels_give_no_scores():
    assert Accuracy().score([], []) == []


def test_labels_and_references_of_different_number_are_our_own_mistake():
    with pytest.raises(ValueError, match="zip"):
        Accuracy().score(["a"], ["a", "b"])


def test_its_label_is_the_name_of_the_field():
    assert Metric.read("accuracy").label == "accuracy"
