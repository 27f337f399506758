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
    """Tokens `start` to `end` of the row, which also see the tokens from `before` on, `seen` of them, and no others."""

    start: int
    end: int
    before: int
    seen: int

    @property
    def own(self) -> int:
        """Tokens of its own."""
        return self.end - self.start


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
        texts = [found[p.before : p.before + p.seen] + found[p.start : p.end] for p in self.pieces]
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
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[Piece] = []
    places: list[list[range]] = []
    for group in kin:
        trunk, places_here = len(ids), []
        for seen, own in group:
            start = len(ids)
            ids += own
            positions += range(seen, seen + len(own))
            places_here.append(range(start, len(ids)))
            if own:
                pieces.append(Piece(start, len(ids), trunk, seen))
        places.append(places_here)
    return Segments(torch.tensor(ids), torch.tensor(positions), tuple(pieces)), places
