"""Generators: prompts in, text out."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from burnish.records import Message
from burnish.spec import Part


class Writer(Protocol):
    """A generator that is loaded."""

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        ...

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        """Return the text written after each prompt; `done` hears how many are finished."""
        ...


class Generator(Part):
    """How answers are written; `load` makes it ready."""

    folder: ClassVar[str] = "burnish.generators"

    @abstractmethod
    def load(self) -> Writer:
        """Return a writer."""
