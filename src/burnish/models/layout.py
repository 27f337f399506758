"""Several texts in one row without padding: where each stands, and what its tokens see.

A text may branch: the tokens that its branches share stand in the row once, and no branch sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from burnish.models.padding import pad_right

Branches: TypeAlias = tuple[
    Sequence[int], Sequence[Sequence[int]]
]  # token ids, and those of texts that go on from them


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens `start` to `end` of the row, which also see the first tokens of pieces before them, and no others.

    sees: of each such piece where it starts, and how many of its tokens are seen, in the order of the text.
    """

    start: int
    end: int
    sees: tuple[tuple[int, int], ...] = ()

    @property
    def own(self) -> int:
        """Tokens of its own."""
        return self.end - self.start

    @property
    def seen(self) -> int:
        """Tokens that it sees beside them."""
        return sum(count for _, count in self.sees)

    def up_to(self, count: int) -> tuple[tuple[int, int], ...]:
        """Return what a piece sees that goes on from the first `count` tokens of this one's text."""
        found = []
        for start, size in (*self.sees, (self.start, self.own)):
            if count > 0:
                found.append((start, min(size, count)))
            count -= size
        return tuple(found)


@dataclass(frozen=True)
class Segments:
    """Texts laid out in one row, (tokens,) ids and each token's place in its text.

    A piece is a text from its beginning, or a branch that goes on from a text's first tokens. pieces: in the row's
    order; together they are the row. by_torch: no attention of ours is to be used.
    """

    ids: Tensor
    positions: Tensor
    pieces: tuple[Piece, ...]
    by_torch: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(piece.seen + piece.own for piece in self.pieces)

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """The texts as a rectangle, each with what it branches from: ids, mask, and where the row's tokens stand in it.

        ids, mask: (pieces, width). The last: (tokens,) places in the flattened rectangle.
        """
        found = self.ids.tolist()
        ranges = [(*p.sees, (p.start, p.own)) for p in self.pieces]
        texts = [[token for start, count in own for token in found[start : start + count]] for own in ranges]
        ids, mask = pad_right(texts)
        width = ids.shape[1]
        places = [row * width + p.seen + step for row, p in enumerate(self.pieces) for step in range(p.own)]
        return ids, mask, torch.tensor(places)


def lay_out(rows: Sequence[Branches]) -> tuple[Segments, list[list[range]]]:
    """Return the row that holds these texts, and where the tokens of each one's branches stand in it.

    rows: what comes first, not empty, and its branches, of which any may be empty. The first branch goes on in the
    piece that the shared tokens are in: what it sees is all that stands before it.
    """
    kin = [
        [(0, [*shared, *(branches[0] if branches else ())]), *((len(shared), branch) for branch in branches[1:])]
        for shared, branches in rows
    ]
    segments, places = lay_kin(kin)
    behind = [
        [range(first.start + len(shared), first.stop), *others][: len(branches)]
        for (shared, branches), (first, *others) in zip(rows, places, strict=True)
    ]
    return segments, behind


def lay_kin(kin: Sequence[Sequence[tuple[int, Sequence[int]]]]) -> tuple[Segments, list[list[range]]]:
    """Return the row that holds these texts, and where the own tokens of each stand in it.

    kin: of each group its first text whole, with 0, and of the others how many tokens each begins with that the first
    begins with too, at least one, and what comes behind these, which may be nothing.
    """
    return lay_tree([[(0 if seen else None, seen, own) for seen, own in group] for group in kin])


def lay_tree(
    groups: Sequence[Sequence[tuple[int | None, int, Sequence[int]]]],
) -> tuple[Segments, list[list[range]]]:
    """Return the row that holds these texts, and where the own tokens of each stand in it.

    groups: of each text which one before it in its group it goes on from, with how many tokens of that one's text, what
    that one goes on from included, and its own tokens, which may be none. A text that begins anew goes on from None,
    with 0, and has tokens.
    """
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[Piece] = []
    places: list[list[range]] = []
    for group in groups:
        here: list[Piece] = []
        for parent, seen, own in group:
            start = len(ids)
            here.append(Piece(start, start + len(own), () if parent is None else here[parent].up_to(seen)))
            ids += own
            positions += range(seen, seen + len(own))
        pieces += [piece for piece in here if piece.own]
        places.append([range(piece.start, piece.end) for piece in here])
    return Segments(torch.tensor(ids), torch.tensor(positions), tuple(pieces)), places
