"""Generators: prompts in, text out."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from burnish.errors import RecipeError
from burnish.failures import Failure
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

    def attempt(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str | Failure]:
        """Return what `write` does, with a failure in the place of each text that did not come; the rest are kept."""
        ...

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        """Return `count` texts drawn after each prompt, in an order that means nothing; some may be equal.

        done: hears how many texts are finished.

        Raises:
            RecipeError: the generator's temperature is 0, at which all texts of a prompt would be one.
        """
        ...


class Generator(Part):
    """How answers are written; `load` makes it ready."""

    folder: ClassVar[str] = "burnish.generators"

    @abstractmethod
    def load(self) -> Writer:
        """Return a writer."""


def require_draws(generator: Generator, temperature: float) -> None:
    """Check that samples of a generator may differ.

    Raises:
        RecipeError: its temperature is 0.
    """
    if temperature == 0:
        raise RecipeError(
            f"several texts a prompt are drawn, and the generator {generator.kind} has temperature 0, at which they "
            "would all be one: give it another, for example {temperature: 0.8}"
        )
