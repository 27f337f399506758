import random

import pytest

from burnish.models.packing import micro_batches
from burnish.train.batches import Plan, rows_of_step, step_count


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


def plan(rows: int, rehearsed: int, share: float, *, batch: int = 16, epochs: float = 3) -> Plan:
    return Plan(tuple(lengths(rows + rehearsed)), batch, epochs, seed=1, rehearsed=rehearsed, share=share)


def test_a_plan_without_rehearsal_is_the_plain_one():
    plain = plan(100, 0, 0.0)
    assert plain.steps == step_count(100, batch=16, epochs=3)
    for step in range(plain.steps):
        assert plain.rows(step) == rows_of_step(lengths(100), step, batch=16, seed=1)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("rehearsed", [3, 40, 500])
def test_each_step_holds_its_share_of_rehearsed_rows(share: float, rehearsed: int):
    mixed = plan(100, rehearsed, share)
    for step in range(mixed.steps):
        rows = mixed.rows(step)
        many = sum(row >= 100 for row in rows)
        assert many >= 1
        assert abs(many - share * len(rows)) <= 1
        assert abs(len(rows) - 16) <= 4


def test_an_epoch_holds_each_row_that_is_not_rehearsed_once():
    mixed = plan(100, 40, 0.25, epochs=1)
    own = [row for step in range(mixed.steps) for row in mixed.rows(step) if row < 100]
    assert sorted(own) == list(range(100))
    assert mixed.steps == step_count(100, batch=12, epochs=1)


def test_rehearsed_rows_take_turns_in_an_order_of_each_round():
    mixed = plan(100, 7, 0.25, epochs=20)
    found = [row for step in range(mixed.steps) for row in mixed.rows(step) if row >= 100]
    rounds = [found[first : first + 7] for first in range(0, len(found) - 6, 7)]
    assert all(sorted(turn) == list(range(100, 107)) for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1


def test_the_rows_of_a_mixed_step_follow_from_the_step_alone():
    mixed = plan(50, 9, 0.3)
    forwards = [mixed.rows(step) for step in range(mixed.steps)]
    assert forwards == [mixed.rows(step) for step in reversed(range(mixed.steps))][::-1]


def test_a_batch_of_two_has_one_row_of_each_kind():
    mixed = plan(10, 4, 0.9, batch=2)
    assert [sum(row < 10 for row in mixed.rows(step)) for step in range(5)] == [1] * 5
