import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.preprocessing import MultiLabelBinarizer

from burnish.metrics import Metric
from burnish.metrics.f1 import F1

THEIRS = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
each_average = pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
each_part = pytest.mark.parametrize("part", THEIRS)


def draw(seed: int, size: int, labels: str = "abcdef") -> tuple[list[str], list[str]]:
    """Return predictions and references, half of which agree; some classes are never predicted, some never right."""
    random = np.random.default_rng(seed)
    right = random.choice(list(labels[1:]), size=size)
    said = np.where(random.random(size) < 0.5, right, random.choice(list(labels[:-1]), size=size))
    return said.tolist(), right.tolist()


@each_average
@each_part
@pytest.mark.parametrize(("seed", "size"), [(1, 200), (2, 12), (3, 2), (4, 1)])
def test_single_labels_equal_scikit_learn(average, part, seed, size):
    said, right = draw(seed, size)
    theirs = THEIRS[part](right, said, average=average, zero_division=0)
    assert F1(average=average, part=part).value(said, right) == pytest.approx(theirs, abs=1e-12)


@each_average
@each_part
def test_a_fixed_list_of_labels_equals_scikit_learn_absent_ones_and_left_out_ones_too(average, part):
    said, right = draw(5, 60)
    labels = ("b", "never", "d", "a")
    theirs = THEIRS[part](right, said, labels=labels, average=average, zero_division=0)
    assert F1(average=average, part=part, labels=labels).value(said, right) == pytest.approx(theirs, abs=1e-12)


@each_average
@each_part
@pytest.mark.parametrize("seed", range(3))
def test_sets_of_labels_equal_scikit_learn(average, part, seed):
    random = np.random.default_rng(seed)
    rows = [[tuple(np.array(list("abcde"))[random.random(5) < 0.3]) for _ in range(40)] for _ in range(2)]
    binary = MultiLabelBinarizer().fit(rows[0] + rows[1])
    theirs = THEIRS[part](binary.transform(rows[1]), binary.transform(rows[0]), average=average, zero_division=0)
    assert F1(average=average, part=part).value(*rows) == pytest.approx(theirs, abs=1e-12)


@each_average
@each_part
def test_what_cannot_be_divided_counts_zero(average, part):
    metric = F1(average=average, part=part)
    assert metric.value(["a", "a"], ["b", "b"]) == 0
    assert metric.value([()], [()]) == 0
    assert F1(average=average, part=part, labels=("x", "y")).value(["a"], ["a"]) == 0


@each_average
def test_every_resample_gets_what_scikit_learn_says_of_it(average):
    said, right = draw(6, 30)
    drawn = np.random.default_rng(7).integers(30, size=(20, 30))
    sums = F1(average=average).statistics(said, right)[drawn].sum(axis=1)
    theirs = [f1_score(np.array(right)[rows], np.array(said)[rows], average=average, zero_division=0) for rows in drawn]
    assert F1(average=average).combine(sums) == pytest.approx(theirs)


def test_two_systems_share_their_columns_and_keep_their_values():
    metric = F1()
    ours, theirs, right = ["a", "b", "x"], ["a", "y", "y"], ["a", "b", "b"]
    mine, other = metric.paired_statistics(ours, theirs, right)
    assert mine.shape == other.shape == (3, 3 * 4)
    assert metric.combine(mine.sum(axis=0)) == pytest.approx(metric.value(ours, right))
    assert metric.combine(other.sum(axis=0)) == pytest.approx(metric.value(theirs, right))


def test_its_label_says_the_average_the_part_and_the_classes():
    assert Metric.read("f1").label == "macro F1"
    assert Metric.read({"kind": "f1", "average": "micro", "part": "recall"}).label == "micro recall"
    assert Metric.read({"kind": "f1", "labels": ["for", "against"]}).label == "macro F1 of for, against"


def test_a_label_that_would_count_twice_is_refused():
    with pytest.raises(ValueError, match="label 'a' is named twice"):
        Metric.read({"kind": "f1", "labels": ["a", "b", "a"]})
    with pytest.raises(ValueError, match="at least 1 item"):
        Metric.read({"kind": "f1", "labels": []})


def test_predictions_and_references_of_different_number_are_our_own_mistake():
    with pytest.raises(ValueError, match="zip"):
        F1().statistics(["a"], ["a", "b"])


def test_no_examples_have_no_statistics():
    assert F1().statistics([], []).shape == (0, 0)
    assert F1(labels=("a", "b")).statistics([], []).shape == (0, 6)
