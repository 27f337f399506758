"""BM25: shared words, weighed by their rarity."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray
from pydantic import Field

from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.text import words

ENGLISH = frozenset(STOPWORDS_EN) | {"s", "t", "d", "m", "ll", "re", "ve"}  # Lucene's 33, and what is left of `it's`


class Bm25(Retriever):
    """BM25 (Robertson & Zaragoza 2009, in Lucene's form) over the words of title and text; trains nothing.

    stop_words: which words of a question are not searched for, unless there are no others: `none`, or those that carry
    nothing in English. In other languages few words are among these.
    """

    k1: float = Field(default=1.5, ge=0)
    b: float = Field(default=0.75, ge=0, le=1)
    stop_words: Literal["english", "none"] = "english"

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
        left_out = ENGLISH if self.stop_words == "english" else frozenset[str]()
        return _Bm25Searcher(index, [chunk.id for chunk in ordered], left_out)


class _Bm25Searcher:
    """Chunks stand in descending order of id, so that of equal scores the first place comes first, as in trec_eval."""

    def __init__(self, index: Any, ids: list[str], left_out: frozenset[str]) -> None:
        self.notes: dict[str, int] = {}
        self._index = index
        self._ids = ids
        self._left_out = left_out

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._ranked(words(question), k) for question in questions]

    def _ranked(self, query: list[str], k: int) -> list[Hit]:
        asked = [word for word in query if word not in self._left_out] or query
        known = [word for word in asked if word in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        return [Hit(self._ids[place], float(scores[place])) for place in best(scores, k)]


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the places of the k highest scores above 0, best first; of equal scores the first place comes first."""
    places = np.flatnonzero(scores > 0)
    if len(places) > k:
        bar = np.partition(scores[places], -k)[-k] if k else np.inf
        places = places[scores[places] >= bar]
    return places[(-scores[places]).argsort(kind="stable")[:k]]
