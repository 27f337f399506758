"""A form as a reward: the text must match a regular expression."""

import re
from collections.abc import Sequence

from pydantic import field_validator

from burnish.errors import RecipeError
from burnish.rewards import Judge, Reward, Written


class Pattern(Reward):
    """1 where the whole text matches a regular expression, else 0: a form, whatever is said in it.

    Python's syntax; `(?s)` at its beginning lets `.` match line ends, `(?i)` ignores case. Example: `yes|no|maybe`.
    """

    pattern: str
    name: str = ""  # what logs call it, where a recipe has several

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, pattern: str) -> str:
        """Check that it can be read.

        Raises:
            RecipeError: it cannot.
        """
        try:
            re.compile(pattern)
        except re.error as error:
            raise RecipeError(f"this is no regular expression: {error}") from error
        return pattern

    @property
    def label(self) -> str:
        """Its name, or `pattern`."""
        return self.name or self.kind

    def load(self) -> Judge:
        """Return what matches texts."""
        form = re.compile(self.pattern)

        def judge(texts: Sequence[Written]) -> list[float]:
            return [float(form.fullmatch(one.text) is not None) for one in texts]

        return judge
