"""The shelf of one ladder: its passages, and every retriever over them, built once."""

from collections.abc import Sequence
from pathlib import Path

from burnish.prepare.corpus import Prepared
from burnish.prompt import Shot
from burnish.records import Chunk, Question
from burnish.retrievers import Progress, Retriever, Searcher
from burnish.steps.train import Say

SHOT_TRIES = 50  # training questions looked through for examples whose gold passage is among those shown


class Shelf:
    """The ladder's chunks by id, and its searchers."""

    def __init__(self, data: Prepared, index: Path, *, say: Say, progress: Progress) -> None:
        """Keep what is costly to compute in the folder `index`."""
        self.data = data
        self.chunks = {chunk.id: chunk for chunk in data.chunks}
        self._index, self._say, self._progress = index, say, progress
        self._searchers: dict[str, Searcher] = {}

    def searcher(self, retriever: Retriever) -> Searcher:
        """Return the retriever over the chunks; what it had to cut is said once."""
        key = f"{retriever.kind} {retriever.model_dump_json()}"
        if key not in self._searchers:
            made = retriever.build(self.data.chunks, cache=self._index, progress=self._progress)
            for reason, count in made.notes.items():
                of = f" of {len(self.chunks)}" if reason.startswith("passages") else ""
                self._say(f"{reason}: {count}{of}")
            self._searchers[key] = made
        return self._searchers[key]

    def passages(self, questions: Sequence[Question], retriever: Retriever | None, count: int) -> list[list[Chunk]]:
        """Return the best `count` passages of each question; none without a retriever."""
        if retriever is None:
            return [[] for _ in questions]
        hits = self.searcher(retriever).search([question.question for question in questions], count)
        return [[self.chunks[hit.id] for hit in row] for row in hits]

    def shots(self, count: int, retriever: Retriever | None, passages: int) -> list[Shot]:
        """Return training questions from all over the set whose gold passage is among those shown, answered."""
        pool = self.data.train[:: max(1, len(self.data.train) // SHOT_TRIES)] if count else []
        rows = zip(pool, self.passages(pool, retriever, passages), strict=True)
        fitting = [(q, row) for q, row in rows if not row or {chunk.id for chunk in row} & set(q.gold)]
        spread = fitting[:: max(1, len(fitting) // count)][:count] if count else []
        return [(q.question, row, q.answers[0]) for q, row in spread]
