"""Rows of pairs, tokenized: what the tasks that compare queries with passages have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.records import Pair

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairItem:
    """A query with its passages, tokenized; a passage is known by its token ids.

    known: passages that answer the query by other rows, or are never wrong for it for another reason. scores: a
    teacher's, of each positive and then each negative, or none.
    """

    id: str
    tokens: int
    query: Ids
    positives: tuple[Ids, ...]
    negatives: tuple[Ids, ...]
    known: tuple[Ids, ...] = ()
    scores: tuple[float, ...] = ()


def passages_of(rows: Sequence[Pair]) -> list[str]:
    """Return the different passages of the rows, in their order."""
    return list(dict.fromkeys(text for row in rows for text in (*row.positives, *row.negatives)))
