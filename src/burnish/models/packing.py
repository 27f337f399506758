"""Rows of similar length together: little padding, bounded memory."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def micro_batches(rows: Sequence[int], tokens: Sequence[int], *, budget: int) -> list[list[int]]:
    """Cut a step's rows into groups of similar length whose padded size stays within the budget.

    A row longer than the budget stands alone.
    """
    groups: list[list[int]] = []
    for row in sorted(rows, key=lambda r: (-tokens[r], r)):
        if groups and (len(groups[-1]) + 1) * tokens[groups[-1][0]] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def packed_batches(rows: Sequence[int], tokens: Sequence[int], *, budget: int) -> list[list[int]]:
    """Cut a step's rows into groups of similar length whose tokens, without padding, stay within the budget.

    A row longer than the budget stands alone.
    """
    groups: list[list[int]] = []
    room = 0
    for row in sorted(rows, key=lambda r: (-tokens[r], r)):
        if not groups or tokens[row] > room:
            groups.append([])
            room = budget
        groups[-1].append(row)
        room -= tokens[row]
    return groups


def blocks(tokens: Sequence[int], *, size: int) -> list[list[int]]:
    """Put pieces of text together into blocks of at most `size` tokens, each into the fullest block that has room.

    tokens: of each piece, at most `size`. Longest first (best-fit decreasing), which leaves few blocks half empty;
    returns the pieces' places, each once.
    """
    found: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # room left → blocks
    rooms: list[int] = []  # the keys of `with_room`, in rising order
    for piece in sorted(range(len(tokens)), key=lambda place: (-tokens[place], place)):
        at = bisect_left(rooms, tokens[piece])
        if at == len(rooms):
            found.append([])
            room, block = size, len(found) - 1
        else:
            room = rooms[at]
            block = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        found[block].append(piece)
        left = room - tokens[piece]
        if left not in with_room:
            insort(rooms, left)
        with_room.setdefault(left, []).append(block)
    return found
