"""Retrievers: questions in, ranked passages out."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias

from burnish.records import Chunk
from burnish.spec import Part

Progress: TypeAlias = Callable[[str, int, int], None]  # what is being done, how much of it is done, out of how much


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a retriever found, and its score; scores compare within one search only."""

    id: str
    score: float


class Searcher(Protocol):
    """A retriever over one corpus."""

    @property
    def notes(self) -> Mapping[str, int]:
        """How many passages were cut short or left out, by reason."""
        ...

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most k hits for each question, best first; equal scores in descending order of id."""
        ...


class Retriever(Part):
    """How passages are found; `build` makes it ready for one corpus."""

    folder: ClassVar[str] = "burnish.retrievers"

    @abstractmethod
    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Return a searcher over the chunks; what is costly to compute is kept in the folder `cache`."""
