import random

import pytest

from burnish.models.packing import micro_batches
from burnish.train.batches import rows_of_step, step_count


def lengths(rows: int) -> list[int]:
    draw = random.Random(rows)
    return [min(256, int(draw.lognormvariate(3.5, 0.8)) + 1) for _ in range(rows)]


@pytest.mark.parametrize("rows", [1, 7, 32, 33, 47, 1000])
@pytest.mark.parametrize("batch", [1, 8, 32])
def test_every_epoch_holds_each_row_once(rows: int, batch: int):
    tokens, steps = lengths(rows), step_count(rows, batch=batch, epochs=1)
    for epoch in range(3):
        batches = [rows_of_step(tokens, epoch * steps + step, batch=batch, seed=1) for step in range(steps)]
        assert sorted(row for found in batches for row in found) == list(range(rows))
        sizes = {len(found) for found in batches}
        assert max(sizes) - min(sizes) <= 1


def test_the_rows_of_a_step_follow_from_seed_and_step_alone():
    tokens = lengths(100)
    forwards = [rows_of_step(tokens, step, batch=8, seed=1) for step in range(60)]
    backwards = [rows_of_step(tokens, step, batch=8, seed=1) for step in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert forwards != [rows_of_step(tokens, step, batch=8, seed=2) for step in range(60)]


def test_epochs_differ_in_order():
    tokens, steps = lengths(100), step_count(100, batch=8, epochs=1)
    first, second = (
        [rows_of_step(tokens, start + step, batch=8, seed=0) for step in range(steps)] for start in (0, steps)
    )
    assert first != second


def test_little_is_padded():
    tokens, steps = lengths(2000), step_count(2000, batch=32, epochs=1)
    batches = [rows_of_step(tokens, step, batch=32, seed=0) for step in range(steps)]
    padded = sum(len(rows) * max(tokens[row] for row in rows) for rows in batches)
    assert padded < 1.1 * sum(tokens)


def test_steps_do_not_go_from_short_rows_to_long_ones():
    tokens, steps = lengths(2000), step_count(2000, batch=32, epochs=1)
    means = [sum(tokens[row] for row in rows_of_step(tokens, step, batch=32, seed=0)) / 32 for step in range(steps)]
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(means, means[1:], means[2:], strict=False))
    assert turns > steps / 3


@pytest.mark.parametrize(
    ("rows", "epochs", "steps"), [(100, 1, 12), (100, 0.5, 6), (3, 0.01, 1), (3, 5, 5), (1000, 2, 250)]
)
def test_steps_are_counted_by_epochs(rows: int, epochs: float, steps: int):
    assert step_count(rows, batch=8, epochs=epochs) == steps


@pytest.mark.parametrize("budget", [1, 100, 500, 10**6])
def test_micro_batches_hold_every_row_once_and_keep_to_the_budget(budget: int):
    tokens = lengths(64)
    rows = list(range(0, 64, 2))
    groups = micro_batches(rows, tokens, budget=budget)
    assert sorted(row for group in groups for row in group) == rows
    assert all(len(group) == 1 or len(group) * max(tokens[row] for row in group) <= budget for group in groups)


def test_no_rows_are_no_micro_batches():
    assert micro_batches([], [], budget=5) == []
