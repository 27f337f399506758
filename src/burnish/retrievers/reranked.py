"""Re-ranked retrieval: the first hits of a retriever, put into order by a cross-encoder."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from burnish.errors import ModelError
from burnish.models.cross import CrossEncoder
from burnish.models.precision import chosen_dtype
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.text import TextFormat


class Reranked(Retriever):
    """Another retriever's first hits in the order of a cross-encoder; the rest stay behind them in theirs.

    weight: w. Where it is below 1, hits stand by w · (the cross-encoder's score) + (1 - w) · (the other retriever's),
    each with 0 for the least of a question's first hits and 1 for the best: a cross-encoder that has learned from few
    labels knows other things than the retriever, and not all of them better.
    """

    of: Retriever
    model: str
    depth: int = Field(default=100, ge=1)  # hits that are read again; each costs a pass through the model
    weight: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=8)  # of query and passage together; None: as the model was saved

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Build the other retriever, and load the cross-encoder.

        Raises:
            ModelError: the model has no trained head of one output.
        """
        first = self.of.build(chunks, cache=cache, progress=progress)
        progress("loading the re-ranker", 0, 1)
        cross = CrossEncoder.load(self.model, dtype=chosen_dtype())
        if cross.fresh:
            raise ModelError(
                f"{self.model}: this model has no trained head of one output, so its order would be a random one; "
                "train one with `task: rerank`, or name a cross-encoder"
            )
        cross.max_tokens = self.max_tokens or cross.max_tokens
        form = TextFormat()
        texts = {chunk.id: form.passage(chunk.title, chunk.text) for chunk in chunks}
        return _RerankedSearcher(self, first, cross, texts, progress)


class _RerankedSearcher:
    """`notes` counts the cut pairs of all searches so far, beside what the first searcher notes."""

    def __init__(
        self, settings: Reranked, first: Searcher, cross: CrossEncoder, texts: dict[str, str], progress: Progress
    ) -> None:
        self._cut = 0
        self._weight = settings.weight
        self._first = first
        self._cross = cross
        self._texts = texts
        self._depth = settings.depth
        self._progress = progress

    @property
    def notes(self) -> dict[str, int]:
        own = {f"pairs of question and passage cut at {self._cross.max_tokens} tokens": self._cut} if self._cut else {}
        return {**self._first.notes, **own}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        found = self._first.search(questions, max(k, self._depth))
        form = TextFormat()
        pairs = [
            (form.query(question), self._texts[hit.id])
            for question, hits in zip(questions, found, strict=True)
            for hit in hits[: self._depth]
        ]
        values, cut = self._cross.scored(pairs, progress=lambda *done: self._progress("re-ranking", *done))
        self._cut += cut
        scores = iter(values)
        return [self._ordered(hits, [next(scores) for _ in hits[: self._depth]])[:k] for hits in found]

    def _ordered(self, hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
        """Return the hits that have a score in its order, and behind them the others, moved below the lowest one."""
        if self._weight < 1:
            before = _from_zero_to_one([hit.score for hit in hits[: len(scores)]])
            after, w = _from_zero_to_one(scores), self._weight
            scores = [w * second + (1 - w) * first for first, second in zip(before, after, strict=True)]
        head = [Hit(hit.id, score) for hit, score in zip(hits, scores, strict=False)]
        tail = hits[len(head) :]
        below = min(scores, default=0.0) - 1 - tail[0].score if tail else 0.0
        head.sort(key=lambda hit: (hit.score, hit.id), reverse=True)
        return [*head, *(Hit(hit.id, hit.score + below) for hit in tail)]


def _from_zero_to_one(scores: Sequence[float]) -> list[float]:
    """Return scores with 0 for the least and 1 for the best; all 1 where they are alike."""
    least, best = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - least) / (best - least) if best > least else 1.0 for score in scores]
