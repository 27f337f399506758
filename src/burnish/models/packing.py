"""Rows of similar length together: little padding, bounded memory."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def micro_batches(rows: Sequence[int], tokens: Sequence[int], *, budget: int, padded: bool = True) -> list[list[int]]:
    """Cut a step's rows into groups of similar length whose size stays within the budget.

    padded: whether a group is a rectangle, as wide as its longest row; else its tokens alone count. A row longer than
    the budget stands alone.
    """
    groups: list[list[int]] = []
    room = 0
    for row in sorted(rows, key=lambda r: (-tokens[r], r)):
        size = tokens[groups[-1][0]] if groups and padded else tokens[row]
        if not groups or size > room:
            groups.append([])
            size, room = tokens[row], budget
        groups[-1].append(row)
        room -= size
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
