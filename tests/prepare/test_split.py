import random
from collections import Counter

import pytest

from burnish.errors import DataError
from burnish.prepare.split import split

SHARES = {"train": 0.7, "dev": 0.1, "test": 0.2}


def groups(seed: int = 0, count: int = 120) -> list[str]:
    draw = random.Random(seed)
    return [f"g{number}" for number in range(count) for _ in range(draw.randint(1, 20))]


def test_no_group_stands_on_two_sides():
    rows = groups()
    sides = split(rows, shares=SHARES, seed=1)
    assert all(len({side for row, side in zip(rows, sides, strict=True) if row == group}) == 1 for group in rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_shares_come_out_close(seed):
    rows = groups(seed)
    counts = Counter(split(rows, shares=SHARES, seed=seed))
    assert {side: counts[side] / len(rows) for side in SHARES} == pytest.approx(SHARES, abs=0.01)


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    rows = groups()
    mixed = random.Random(3).sample(rows, len(rows))
    one = dict(zip(rows, split(rows, shares=SHARES, seed=1), strict=True))
    assert one == dict(zip(mixed, split(mixed, shares=SHARES, seed=1), strict=True))
    assert one != dict(zip(rows, split(rows, shares=SHARES, seed=2), strict=True))


def test_a_giant_group_goes_to_the_big_side():
    rows = ["giant"] * 300 + groups()
    assert split(rows, shares=SHARES, seed=0)[0] == "train"


@pytest.mark.parametrize("seed", range(5))
def test_few_large_groups_leave_no_side_empty(seed):
    assert set(split(["a"] * 10 + ["b"] * 10 + ["c"] * 5, shares=SHARES, seed=seed)) == set(SHARES)


def test_too_few_groups_and_empty_shares_are_errors():
    with pytest.raises(DataError, match=r"2 group\(s\) cannot be split into 3 sides"):
        split(["a", "b"], shares=SHARES, seed=0)
    with pytest.raises(DataError, match="shares above 0"):
        split(["a", "b"], shares={"train": 1, "dev": 0}, seed=0)
