"""BM25: shared words, weighed by their rarity."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bm25s
from pydantic import Field

from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.text import words


class Bm25(Retriever):
    """BM25 (Robertson & Zaragoza 2009, in Lucene's form) over the words of title and text; trains nothing."""

    k1: float = Field(default=1.5, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:  # noqa: ARG002
        """Index the chunks: a matter of seconds, so nothing is kept."""
        ordered = sorted(chunks, key=lambda chunk: chunk.id, reverse=True)
        progress("indexing (bm25)", 0, len(ordered))
        texts = [words(f"{chunk.title} {chunk.text}") for chunk in ordered]
        index = bm25s.BM25(method="lucene", k1=self.k1, b=self.b)
        if any(texts):  # without a word the mean length is zero, and nothing can be found
            index.index(texts, show_progress=False)
        else:
            index.vocab_dict = {}
        progress("indexing (bm25)", len(ordered), len(ordered))
        return _Bm25Searcher(index, [chunk.id for chunk in ordered])


class _Bm25Searcher:
    """Chunks stand in descending order of id, so that a stable sort breaks ties as trec_eval does."""

    def __init__(self, index: Any, ids: list[str]) -> None:
        self.notes: dict[str, int] = {}
        self._index = index
        self._ids = ids

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._ranked(words(question), k) for question in questions]

    def _ranked(self, query: list[str], k: int) -> list[Hit]:
        known = [word for word in query if word in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        order = (-scores).argsort(kind="stable")[:k]
        return [Hit(self._ids[place], float(scores[place])) for place in order if scores[place] > 0]
