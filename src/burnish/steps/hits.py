"""What retrievers find for many questions, kept on disk block by block: nothing is searched twice."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from burnish.records import Chunk, Question
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.run import write_text
from burnish.steps.fingerprints import part_fingerprint
from burnish.steps.train import Say
from burnish.text import fingerprint

QUESTIONS = 512  # searched, and looked through, at a time: what a kill loses at most


def blocks(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    """Yield the questions in blocks."""
    for first in range(0, len(questions), QUESTIONS):
        yield questions[first : first + QUESTIONS]


class Hits:
    """The hits of one retriever, in files of a folder of their own; a file is there whole or not at all."""

    def __init__(self, retriever: Retriever, folder: Path, *, ground: str, depth: int) -> None:
        """Name the folder by all that shapes the hits: settings, weights, depth, and `ground`, what is searched."""
        self._retriever, self._depth = retriever, depth
        self.fingerprint = part_fingerprint(retriever)
        self._folder = folder / fingerprint(self.fingerprint, ground, str(depth), str(QUESTIONS))

    def find(
        self,
        questions: Sequence[Question],
        chunks: Sequence[Chunk],
        *,
        index: Path,
        say: Say,
        progress: Progress,
    ) -> None:
        """Search what was not searched before; the retriever is built only if there is any, and let go afterwards."""
        missing = [place for place, _ in enumerate(blocks(questions)) if not self._file(place).is_file()]
        if not missing:
            return
        name = label(self._retriever)
        searcher = self._retriever.build(chunks, cache=index, progress=progress)
        for reason, count in searcher.notes.items():
            say(f"{name}: {reason}: {count}")
        for place, block in enumerate(blocks(questions)):
            progress(f"searching ({name})", place * QUESTIONS, len(questions))
            if place in missing:
                self._search(place, block, searcher)

    def _search(self, place: int, block: Sequence[Question], searcher: Searcher) -> None:
        found = searcher.search([question.question for question in block], self._depth)
        write_text(self._file(place), json.dumps([[[hit.id, hit.score] for hit in hits] for hits in found]))

    def read(self, place: int) -> list[list[Hit]]:
        """Return the hits of a block, by its place."""
        found = json.loads(self._file(place).read_text(encoding="utf-8"))
        return [[Hit(key, score) for key, score in hits] for hits in found]

    def _file(self, place: int) -> Path:
        return self._folder / f"{place:06d}.json"


def label(retriever: Retriever) -> str:
    """Return what a retriever is called in tables and messages: its kind, and its model if it has one."""
    settings = retriever.model_dump(mode="json")
    return f"{retriever.kind} {settings['model']}" if isinstance(settings.get("model"), str) else retriever.kind
