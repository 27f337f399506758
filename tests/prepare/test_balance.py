import random
from collections import Counter

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from burnish.errors import DataError
from burnish.prepare.balance import (
    effective_number,
    effective_weights,
    inverse_weights,
    labels_of,
    oversample,
    undersample,
)
from burnish.records import Labelled

LABELS = ["a"] * 100 + ["b"] * 30 + ["c"] * 7 + ["d"]


def rows(labels=LABELS, group: str = "") -> list[Labelled]:
    return [
        Labelled(id=str(place), text=f"text {place}", label=label, group=group) for place, label in enumerate(labels)
    ]


def mean_over_rows(weights: dict[str, float]) -> float:
    return sum(weights[label] for label in LABELS) / len(LABELS)


def test_inverse_weights_are_those_of_scikit_learn():
    known = compute_class_weight("balanced", classes=np.array(list("abcd")), y=np.array(LABELS))
    assert inverse_weights(LABELS) == pytest.approx(dict(zip("abcd", known, strict=True)))
    assert mean_over_rows(inverse_weights(LABELS)) == pytest.approx(1)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_effective_weights_follow_the_formula_with_mean_one(beta):
    weights = effective_weights(LABELS, beta=beta)
    plain = {label: (1 - beta) / (1 - beta**count) for label, count in Counter(LABELS).items()}
    assert {label: weights[label] / weights["d"] for label in plain} == pytest.approx(plain)
    assert mean_over_rows(weights) == pytest.approx(1)


def test_at_its_ends_beta_weighs_equally_or_by_inverse_frequency():
    assert effective_weights(LABELS, beta=0.0) == pytest.approx(dict.fromkeys("abcd", 1.0))
    assert effective_weights(LABELS, beta=1 - 1e-9) == pytest.approx(inverse_weights(LABELS), rel=1e-5)
    assert effective_weights([]) == inverse_weights([]) == {}


def test_the_effective_number_is_the_expected_volume_of_so_many_draws():
    # a further row is worth what all before it left uncovered: E_n = 1 + β · E_(n-1)
    expected = 1.0
    for count in range(1, 50):
        assert effective_number(count, beta=0.97) == pytest.approx(expected)
        expected = 1 + 0.97 * expected
    for wrong in ((0, 0.9), (5, 1.0), (5, -0.1)):
        with pytest.raises(ValueError, match=r"beta must be in \[0, 1\), and a class needs rows"):
            effective_number(wrong[0], beta=wrong[1])


@pytest.mark.parametrize(("ratio", "wanted"), [(0.3, [100, 30, 30, 30]), (1.0, [100] * 4), (0.01, [100, 30, 7, 1])])
def test_small_classes_are_copied_up_to_the_ratio(ratio, wanted):
    made = oversample(rows(), ratio=ratio, seed=0)
    counts = Counter(row.label for row in made.rows)
    assert [counts[label] for label in "abcd"] == wanted
    assert made.change == {
        label: more - Counter(LABELS)[label]
        for label, more in zip("abcd", wanted, strict=True)
        if more > Counter(LABELS)[label]
    }
    assert len({row.id for row in made.rows}) == len(made.rows)


def test_copies_name_their_origin_and_share_its_group():
    made = oversample(rows("aaab"), ratio=1, seed=0)
    assert [row.id for row in made.rows] == ["0", "1", "2", "3", "3#2", "3#3"]
    assert [row.group for row in made.rows] == ["", "", "", "3", "3", "3"]
    assert {row.text for row in made.rows[3:]} == {"text 3"}
    assert {row.group for row in oversample(rows("aaab", group="g"), ratio=1, seed=0).rows} == {"g"}


def test_every_row_of_a_class_is_copied_before_any_is_copied_twice():
    copies = Counter(row.id.split("#")[0] for row in oversample(rows(), ratio=1, seed=0).rows)
    small = [copies[str(place)] for place, label in enumerate(LABELS) if label == "c"]
    assert max(small) - min(small) <= 1


def test_an_id_that_is_taken_is_passed_over():
    found = [
        Labelled(id="x", text="t", label="a"),
        Labelled(id="x#2", text="u", label="b"),
        Labelled(id="y", text="v", label="b"),
    ]
    assert oversample(found, ratio=1, seed=0).rows[-1].id == "x#3"


def test_large_classes_are_cut_down_to_the_ratio():
    found = rows(LABELS[:-1])
    made = undersample(found, ratio=0.5, seed=0)
    assert Counter(row.label for row in made.rows) == {"a": 14, "b": 14, "c": 7}
    assert made.change == {"a": -86, "b": -16}
    assert [row for row in found if row in made.rows] == made.rows


@pytest.mark.parametrize("sample", [oversample, undersample])
def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_rows(sample):
    found = rows(LABELS[:-1])
    mixed = random.Random(1).sample(found, len(found))

    def chosen(given: list[Labelled], seed: int) -> set[str]:
        return {row.id for row in sample(given, ratio=0.15 if sample is oversample else 1, seed=seed).rows}

    assert chosen(found, 0) == chosen(mixed, 0) != chosen(found, 1)


@pytest.mark.parametrize("sample", [oversample, undersample])
def test_what_cannot_be_resampled_is_an_error(sample):
    with pytest.raises(ValueError, match="ratio must be above 0 and at most 1"):
        sample(rows(), ratio=0, seed=0)
    with pytest.raises(DataError, match="row 'x' has a list of labels"):
        sample([Labelled(id="x", text="t", label=("a", "b"))], ratio=1, seed=0)
    assert sample([], ratio=1, seed=0).rows == []


def test_a_row_has_one_label_or_several_different_ones():
    assert labels_of(Labelled(id="x", text="t", label="a")) == ("a",)
    assert labels_of(Labelled(id="x", text="t", label=("a", "b", "a"))) == ("a", "b")
