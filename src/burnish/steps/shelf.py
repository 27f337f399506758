"""The shelf of one ladder: its passages, and every retriever over them, built once."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from burnish.errors import DataError
from burnish.prepare.corpus import Prepared
from burnish.prepare.ground import row_of
from burnish.prepare.shots import Asked, Shots, ranked
from burnish.prompt import PromptFormat, Shot
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

    def shots(
        self, shots: Shots, questions: Sequence[Question], retriever: Retriever | None, prompt: PromptFormat
    ) -> list[list[Shot]]:
        """Return, for each question, training questions with their answers, and the passages found for them.

        One of these is a right one. Without `shots.like` all questions get the same ones, from all over the set, but
        for what they may not see (see `Shots`).

        Raises:
            DataError: fewer training questions fit a prompt than are asked for.
        """
        if not shots.count:
            return [[] for _ in questions]
        tries = self.data.train if shots.like else self.data.train[:: max(1, len(self.data.train) // SHOT_TRIES)]
        pool = [question for question in tries if question.answers]
        if shots.like is None:
            found = self._fitting(pool, range(len(pool)), retriever, prompt)
            pool, found = [pool[place] for place in found], dict(enumerate(found.values()))
        asked, known = ([Asked(q.id, q.group, q.question) for q in of] for of in (questions, pool))
        places = [
            [*islice(best, shots.count if shots.like is None else SHOT_TRIES)]
            for best in ranked(asked, known, shots, cache=self._index, progress=self._progress)
        ]
        if shots.like is not None:
            found = self._fitting(pool, sorted({place for near in places for place in near}), retriever, prompt)
            places = [[place for place in near if place in found][: shots.count][::-1] for near in places]
        for question, chosen in zip(questions, places, strict=True):
            if len(chosen) < shots.count:
                raise DataError(
                    f"question {question.id!r}: {len(chosen)} training questions fit its prompt as examples, and "
                    f"{shots.count} are asked for; ask for fewer shots"
                )
        return [[found[place] for place in chosen] for chosen in places]

    def _fitting(
        self, pool: Sequence[Question], places: Iterable[int], retriever: Retriever | None, prompt: PromptFormat
    ) -> dict[int, Shot]:
        """Return, by their places, those of the pool whose right passage is among those shown, as examples."""
        some = [*places]
        questions = [pool[place] for place in some]
        shown = self.passages(questions, retriever, prompt.passages)
        return {
            place: (question.question, row, prompt.reply(row_of(question, row, answerable=True)))
            for place, question, row in zip(some, questions, shown, strict=True)
            if not row or {chunk.id for chunk in row} & set(question.gold)
        }
