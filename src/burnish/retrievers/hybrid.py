"""Hybrid retrieval: several rankings, fused by rank."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher


class Hybrid(Retriever):
    """Reciprocal rank fusion of several retrievers: Σ 1 / (k + rank) (Cormack et al. 2009, SIGIR)."""

    of: tuple[Retriever, ...] = Field(min_length=2)
    k: int = Field(default=60, ge=1)
    depth: int = Field(default=100, ge=1)  # ranks of each retriever that count, however many hits are asked for

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Build every member."""
        return _HybridSearcher(
            [member.build(chunks, cache=cache, progress=progress) for member in self.of], self.k, self.depth
        )


class _HybridSearcher:
    def __init__(self, members: list[Searcher], k: int, depth: int) -> None:
        self.notes = {reason: count for member in members for reason, count in member.notes.items()}
        self._members = members
        self._k = k
        self._depth = depth

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        found = [member.search(questions, self._depth) for member in self._members]
        return [self._fused(rankings, k) for rankings in zip(*found, strict=True)]

    def _fused(self, rankings: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
        scores: dict[str, float] = {}
        for ranking in rankings:
            for rank, hit in enumerate(ranking, start=1):
                scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (self._k + rank)
        by_id = sorted(scores.items(), key=lambda entry: entry[0], reverse=True)
        return [Hit(key, score) for key, score in sorted(by_id, key=lambda entry: -entry[1])[:k]]
