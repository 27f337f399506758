import random

import pytest

from burnish.models.packing import blocks, micro_batches


@pytest.mark.parametrize("seed", range(20))
def test_every_piece_stands_in_one_block_and_no_block_is_too_long(seed: int):
    draw = random.Random(seed)
    tokens = [draw.randint(1, 32) for _ in range(draw.randint(0, 60))]
    found = blocks(tokens, size=32)
    assert sorted(place for block in found for place in block) == list(range(len(tokens)))
    assert all(sum(tokens[place] for place in block) <= 32 for block in found)
    least = -(-sum(tokens) // 32)
    assert len(found) <= 11 / 9 * least + 4  # the bound of best-fit decreasing, against a bound of the best


def test_a_piece_goes_into_the_fullest_block_that_has_room():
    assert blocks([7, 5, 4, 3, 3], size=10) == [[0, 3], [1, 2], [4]]
    assert blocks([10, 10], size=10) == [[0], [1]]
    assert blocks([], size=10) == []


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_those_of_a_plain_search(seed: int):
    draw = random.Random(seed)
    tokens = [draw.randint(1, 20) for _ in range(40)]
    rooms: list[int] = []
    for size in sorted(tokens, reverse=True):
        fitting = [place for place, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting, key=lambda place: rooms[place])] -= size
        else:
            rooms.append(20 - size)
    found = blocks(tokens, size=20)
    assert sorted(20 - sum(tokens[place] for place in block) for block in found) == sorted(rooms)


def test_groups_hold_rows_of_similar_length_within_the_budget():
    tokens = [3, 9, 4, 30, 8, 3]
    groups = micro_batches(range(6), tokens, budget=20)
    assert groups == [[3], [1, 4], [2, 0, 5]]


def test_packed_groups_hold_every_row_once_within_the_budget():
    draw = random.Random(0)
    tokens = [draw.randint(1, 40) for _ in range(60)]
    groups = micro_batches(range(60), tokens, budget=100, padded=False)
    assert sorted(row for group in groups for row in group) == list(range(60))
    sizes = [sum(tokens[row] for row in group) for group in groups]
    assert max(sizes) <= 100
    assert len(groups) <= sum(tokens) / 60  # at most 40 of 100 tokens stay free
    assert micro_batches([3, 1], [0, 500, 0, 7], budget=100, padded=False) == [[1], [3]]
    assert micro_batches([], [], budget=100, padded=False) == []
