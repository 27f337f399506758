"""Grounding by words: no model, the same everywhere, and blind to other words for the same."""

from pydantic import Field

from burnish.grounding import Check, Grounder, check_by_pairs
from burnish.word_support import supports_by_words


class Lexical(Grounder):
    """The share of a claim's content words, by their stems, that a piece of a passage holds, 0…1.

    It gives 0 where a number of the claim is not in the piece, or a word is denied on one side alone
    (`word_support.supports_by_words`). What is true and said in other words goes unsupported, and what is wrong and
    made of the passage's words goes through: calibrate on judged answers, or train a detector.
    """

    threshold: float = Field(default=0.75, ge=0, le=1)  # support from which on a claim counts as supported

    def load(self) -> Check:
        """Return what judges answers; nothing is read."""
        return lambda cases, *, progress: check_by_pairs(cases, supports_by_words, threshold=self.threshold)  # noqa: ARG005
