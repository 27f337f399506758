"""Every error a user can meet.

    BurnishError            exit code 2 unless said otherwise
    ├── RecipeError         a recipe cannot be run as written (also a ValueError, so pydantic gathers it)
    ├── DataError           a file or a row cannot be used
    ├── ModelError          a model cannot be found, loaded, adapted or saved
    ├── RunError            a run folder is busy, taken, unfinished or not a run
    ├── DivergedError       the loss or a gradient stopped being a finite number
    └── Interrupted         a signal stopped the run after it saved itself: exit code 75 (SIGTERM) or 130 (SIGINT)

A message says where, what is wrong, what was found, and what is allowed or what to do; it stands where it is raised.
Anything else that reaches the command line is our own mistake and exits with 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class BurnishError(Exception):
    """An error that a user can understand and remedy."""

    exit_code = 2


class RecipeError(BurnishError, ValueError):
    """A recipe cannot be run as written."""


class DataError(BurnishError):
    """A file or a row cannot be used."""


class ModelError(BurnishError):
    """A model cannot be found, loaded, adapted or saved."""


class RunError(BurnishError):
    """A run folder is busy, taken, unfinished or not a run."""


class DivergedError(BurnishError):
    """The loss or a gradient stopped being a finite number."""


class Interrupted(BurnishError):  # noqa: N818 (it is no fault)
    """A signal stopped the run after it saved itself."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Keep the exit code that tells a scheduler why the run ended: 75 for SIGTERM, 130 for SIGINT."""
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[str, int]]:
        """Pass from one process to another with its exit code."""
        return type(self), (str(self), self.exit_code)


def near_miss(found: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the allowed word nearest to `found` (case aside), or an empty string."""
    words = {word.casefold(): word for word in allowed}
    near = get_close_matches(found.casefold(), list(words), n=1)
    return f" Did you mean {words[near[0]]!r}?" if near else ""
