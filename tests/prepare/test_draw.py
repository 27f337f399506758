"""A few rows of many, every label alike."""

from collections import Counter

import pytest

from burnish.errors import DataError
from burnish.prepare.draw import drawn
from burnish.records import Document, Labelled

ROWS = [Labelled(id=f"{label}{n}", text="x", label=label) for n, label in enumerate("aaaaaaaaabbbbc")]


def test_labels_are_drawn_in_turn_as_far_as_they_go() -> None:
    for seed in range(5):
        assert Counter(row.label for row in drawn(ROWS, 3, seed=seed)) == {"a": 1, "b": 1, "c": 1}
        assert Counter(row.label for row in drawn(ROWS, 9, seed=seed)) == {"a": 4, "b": 4, "c": 1}
        assert len({row.id for row in drawn(ROWS, 14, seed=seed)}) == 14


def test_a_draw_is_a_function_of_the_seed_and_begins_with_smaller_ones() -> None:
    assert drawn(ROWS, 8, seed=1) == drawn(ROWS, 8, seed=1)
    assert drawn(ROWS, 8, seed=1)[:4] == drawn(ROWS, 4, seed=1)
    assert {tuple(row.id for row in drawn(ROWS, 4, seed=seed)) for seed in range(8)} != {
        tuple(row.id for row in drawn(ROWS, 4, seed=0))
    }


def test_rows_without_labels_are_drawn_from_all() -> None:
    rows = [Document(id=str(n), text="x") for n in range(20)]
    assert len({row.id for row in drawn(rows, 20, seed=0)}) == 20
    with pytest.raises(DataError, match="21 rows are to be drawn, and there are 20"):
        drawn(rows, 21, seed=0)
