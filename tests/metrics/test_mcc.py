import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from burnish.metrics import Metric
from burnish.metrics.mcc import Mcc


@pytest.mark.parametrize(("seed", "classes", "size"), [(1, 2, 50), (2, 5, 200), (3, 4, 6), (4, 30, 90)])
def test_it_equals_scikit_learn(seed, classes, size):
    random = np.random.default_rng(seed)
    right = random.integers(classes, size=size).astype(str)
    said = np.where(random.random(size) < 0.4, right, random.integers(classes, size=size).astype(str))
    assert Mcc().value(said.tolist(), right.tolist()) == pytest.approx(matthews_corrcoef(right, said), abs=1e-12)


def test_every_resample_gets_what_scikit_learn_says_of_it():
    random = np.random.default_rng(5)
    said, right = random.choice(list("abc"), size=(2, 12))
    drawn = random.integers(12, size=(30, 12))
    sums = Mcc().statistics(said.tolist(), right.tolist())[drawn].sum(axis=1)
    assert Mcc().combine(sums) == pytest.approx([matthews_corrcoef(right[rows], said[rows]) for rows in drawn])


def test_perfect_labels_score_one_reversed_ones_minus_one_and_a_single_class_zero():
    right = ["a", "b", "b", "a"]
    assert Mcc().value(right, right) == 1
    assert Mcc().value(["b", "a", "a", "b"], right) == -1
    assert Mcc().value(["a"] * 4, right) == 0
    assert Mcc().value(["a"] * 4, ["a"] * 4) == 0


def test_two_systems_share_their_columns_and_keep_their_values():
    ours, theirs, right = ["a", "b", "x"], ["a", "y", "b"], ["a", "b", "b"]
    mine, other = Mcc().paired_statistics(ours, theirs, right)
    assert mine.shape == other.shape == (3, 1 + 2 * 4)
    assert Mcc().combine(mine.sum(axis=0)) == pytest.approx(Mcc().value(ours, right))
    assert Mcc().combine(other.sum(axis=0)) == pytest.approx(Mcc().value(theirs, right))


def test_its_label_is_the_name_of_the_field():
    assert Metric.read("mcc").label == "MCC"
