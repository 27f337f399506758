"""Rows of pairs, tokenized: what the tasks that compare queries with passages have in common."""

from collections.abc import Mapping, Sequence
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


def pair_item(row: Pair, query: Ids, ids: Mapping[str, Ids], answers: Mapping[Ids, None]) -> PairItem:
    """Return the row, tokenized; of passages that read alike the first counts, and what answers it is no negative.

    ids: the token ids of each passage; those that are not there are left out. answers: what is never wrong for the
    query, in any row.
    """
    right, wrong = ([text for text in texts if text in ids] for texts in (row.positives, row.negatives))
    positives = tuple(dict.fromkeys(ids[text] for text in right))
    negatives = tuple(dict.fromkeys(ids[text] for text in wrong if ids[text] not in answers))
    said = [*zip((*row.positives, *row.negatives), row.scores, strict=False)]  # all of them, or none
    scores = {ids[text]: score for text, score in reversed(said) if text in ids}
    return PairItem(
        id=row.id,
        tokens=len(query) + sum(map(len, positives + negatives)),
        query=query,
        positives=positives,
        negatives=negatives,
        known=tuple(text for text in answers if text not in positives),
        scores=tuple(scores[text] for text in positives + negatives) if scores else (),
    )
