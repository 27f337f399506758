"""What several retrievers found for one question, as one list: each passage once, with every rank and score."""

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.retrievers import Hit


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage, with its rank (from 1) and its score in each retriever's list; None where it is not in the list."""

    id: str
    ranks: tuple[int | None, ...]
    scores: tuple[float | None, ...]

    @property
    def best(self) -> int:
        """The best of its ranks."""
        return min(rank for rank in self.ranks if rank is not None)


def union(lists: Sequence[Sequence[Hit]]) -> list[Candidate]:
    """Return every passage of the lists once, by its best rank; of equal ranks the earlier list comes first.

    lists: of each retriever, best first. Scores of different retrievers do not compare, and ranks do.
    """
    ranks: dict[str, list[int | None]] = {}
    scores: dict[str, list[float | None]] = {}
    for place, hits in enumerate(lists):
        for rank, hit in enumerate(hits, start=1):
            ranks.setdefault(hit.id, [None] * len(lists))[place] = rank
            scores.setdefault(hit.id, [None] * len(lists))[place] = hit.score
    found = [Candidate(key, tuple(ranks[key]), tuple(scores[key])) for key in ranks]
    return sorted(found, key=lambda candidate: (candidate.best, candidate.ranks.index(candidate.best)))
