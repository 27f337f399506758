"""Readers: a source format in, chunks and questions out."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from burnish.records import Chunk, Question, Rejected
from burnish.spec import Part


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader found: passages, questions about them, and what it left out with the reason."""

    chunks: list[Chunk]
    questions: list[Question]
    rejected: list[Rejected]


class Reader(Part):
    """Reads one kind of source."""

    folder: ClassVar[str] = "burnish.readers"

    @abstractmethod
    def load(self) -> Source:
        """Return what the source holds, in an order that depends on nothing but its content."""
