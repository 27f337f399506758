import random
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from itertools import accumulate

import pytest

from burnish.models.packing import micro_batches
from burnish.train.batches import Plan, rows_of_step, step_count
from burnish.train.mixing import Sets, apportioned


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


def of_sets(sizes: list[int], weights: list[float], *, one_set: bool = True, batch: int = 8, epochs: float = 2) -> Plan:
    sets = Sets(tuple(sizes), tuple(weights), one_set)
    return Plan(tuple(lengths(sum(sizes))), batch, epochs, seed=1, sets=sets)


def which(plan: Plan, step: int) -> list[int]:
    """Return the number of the set that each row of a step is of."""
    assert plan.sets
    edges = list(accumulate(plan.sets.sizes))
    return [bisect_right(edges, row) for row in plan.rows(step)]


def test_each_step_is_of_one_set_and_sets_have_steps_by_weight():
    mixed = of_sets([300, 100, 20], [6, 3, 1])
    found = [set(which(mixed, step)) for step in range(mixed.steps)]
    assert all(len(sets) == 1 for sets in found)
    counts = Counter(number for [number] in map(tuple, found))
    assert mixed.steps == step_count(420, batch=8, epochs=2) == 104
    assert [counts[number] for number in range(3)] == [62, 31, 11]
    assert mixed.of_sets()[0] == (62, 62 / 38)


def test_sets_have_their_share_all_along_the_run():
    mixed = of_sets([300, 300], [3, 1], epochs=4)
    steps = mixed.steps
    for end in range(20, steps, 20):
        often = sum(which(mixed, step)[0] for step in range(end))
        assert abs(often - end / 4) <= 2


def test_a_set_begins_anew_once_all_its_rows_had_their_turn():
    mixed = of_sets([200, 24], [1, 1])
    small = [mixed.rows(step) for step in range(mixed.steps) if which(mixed, step)[0] == 1]
    rounds = [sorted(row for rows in small[first : first + 3] for row in rows) for first in range(0, len(small) - 2, 3)]
    assert len(rounds) > 3
    assert all(rows == list(range(200, 224)) for rows in rounds)
    assert small[:3] != small[3:6]


def test_sets_by_their_rows_see_each_row_about_once_an_epoch():
    mixed = of_sets([300, 100, 40], [300, 100, 40], epochs=1)
    assert all(often == pytest.approx(1, abs=0.05) for _, often in mixed.of_sets())


@pytest.mark.parametrize(
    ("weights", "expected"), [([6, 3, 1], [5, 2, 1]), ([98, 1, 1], [6, 1, 1]), ([1, 1, 1], [3, 3, 2])]
)
def test_each_step_of_all_sets_holds_each_by_weight(weights: list[float], expected: list[int]):
    mixed = of_sets([300, 100, 20], weights, one_set=False)
    for step in range(mixed.steps):
        found = Counter(which(mixed, step))
        assert all(abs(found[number] - many) <= 1 for number, many in enumerate(expected))
        assert len(set(mixed.rows(step))) == len(mixed.rows(step))
    assert [many for many, _ in mixed.of_sets()] == expected


@pytest.mark.parametrize("one_set", [True, False])
def test_the_rows_of_a_step_of_several_sets_follow_from_the_step_alone(one_set: bool):
    mixed = of_sets([60, 30, 9], [1, 2, 1], one_set=one_set)
    forwards = [mixed.rows(step) for step in range(mixed.steps)]
    again = of_sets([60, 30, 9], [1, 2, 1], one_set=one_set)
    assert forwards == [again.rows(step) for step in reversed(range(again.steps))][::-1]
    assert forwards != [replace(mixed, seed=2).rows(step) for step in range(mixed.steps)]


@pytest.mark.parametrize("one_set", [True, False])
def test_rows_to_rehearse_stand_beside_those_of_sets(one_set: bool):
    plain = of_sets([60, 30], [1, 1], one_set=one_set, batch=12)
    mixed = replace(plain, tokens=tuple(lengths(100)), batch=16, rehearsed=10, share=0.25)
    for step in range(mixed.steps):
        rows = mixed.rows(step)
        assert sum(row >= 90 for row in rows) in (3, 4, 5)
        assert {row for row in rows if row < 90} == set(replace(plain, tokens=mixed.tokens[:90]).rows(step))


@pytest.mark.parametrize(
    ("whole", "weights", "expected"),
    [
        (10, [1, 1], [5, 5]),
        (10, [2, 1], [7, 3]),
        (3, [1, 1, 1, 1], [1, 1, 1, 0]),
        (0, [1], [0]),
        (7, [0.1, 0.1], [4, 3]),
    ],
)
def test_whole_numbers_by_weight_add_up(whole: int, weights: list[float], expected: list[int]):
    assert apportioned(whole, weights) == expected
