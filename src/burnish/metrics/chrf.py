"""chrF: character n-grams that a text shares with its reference, over a whole corpus."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from burnish.metrics import Answers, Floats, Metric, sacrebleu_counts, sacrebleu_score, sacrebleu_signature

CHARACTERS = 6  # n-grams of up to so many characters


class Chrf(Metric):
    """Corpus chrF of sacrebleu: F-score, recall counting twice, of 1- to 6-grams of characters; 0…100.

    Needs no word boundaries, so it suits every script. Of several references the best one counts, text by text.
    It is a number of the corpus, not a mean over texts. words: 2 adds word n-grams up to that length, which is chrF++.
    Source: Popović 2015 (doi 10.18653/v1/W15-3049) and 2017 (doi 10.18653/v1/W17-4770).
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, 100.0)

    words: int = Field(default=0, ge=0, le=2)
    lowercase: bool = False

    @property
    def label(self) -> str:
        """`chrF`, or `chrF++` with word 2-grams; `(lower case)` behind it where case is ignored."""
        return f"chrF{'+' * self.words}{' (lower case)' if self.lowercase else ''}"

    def signature(self, references: Sequence[Answers]) -> str:
        """Return sacrebleu's signature for these references, which makes a score comparable across papers."""
        return sacrebleu_signature(self._scorer(), references)

    def statistics(self, predictions: Sequence[str], references: Sequence[Answers]) -> Floats:
        """Return (examples, 3 · orders): for each order n-grams, n-grams of the reference, and those that match."""
        return sacrebleu_counts(self._scorer(), predictions, references, 3 * (CHARACTERS + self.words))

    def combine(self, totals: Floats) -> Floats:
        """Return the score from (…, 3 · orders) counts."""
        return sacrebleu_score(self._scorer(), totals)

    def _scorer(self) -> Any:
        """Return sacrebleu's chrF with these settings."""
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(char_order=CHARACTERS, word_order=self.words, lowercase=self.lowercase)
