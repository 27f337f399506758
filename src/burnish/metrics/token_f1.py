"""Token F1: how much of the answer and of the right answer is the same words."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from burnish.metrics import Answers, Metric, require_answers
from burnish.text import answer_form, words


class TokenF1(Metric):
    """Harmonic mean of token precision and recall, against the best of the right answers.

    A token counts as often as it is said on both sides.
    `tokens: squad` compares as SQuAD does: punctuation vanishes, so a dotted name is one token and F1 on it is all or
    nothing. `tokens: words` splits at punctuation, dots and underscores too: `zipfile.is_zipfile` is three tokens.
    Range 0…1. Where a side has no tokens at all, 1 if the other has none either, else 0, as in SQuAD 2.0.
    Source: Rajpurkar et al. 2016 (arXiv 1606.05250) and 2018 (arXiv 1806.03822).
    """

    tokens: Literal["squad", "words"] = "squad"

    @property
    def label(self) -> str:
        """`token F1`."""
        return "token F1"

    def score(self, predictions: Sequence[str], references: Sequence[Answers]) -> list[float]:
        """Return the F1 of each answer.

        Raises:
            DataError: a question has no right answer: callers leave such questions out beforehand, and count them.
        """
        scores = []
        for answer, rights in zip(predictions, require_answers(references), strict=True):
            said = self._split(answer)
            scores.append(max(_f1(said, self._split(right)) for right in rights))
        return scores

    def _split(self, text: str) -> list[str]:
        """Return the tokens of an answer."""
        return words(text) if self.tokens == "words" else answer_form(text).split()


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    """Return 2·shared / (said + right), which is the harmonic mean of precision and recall."""
    if not said or not right:
        return float(not said and not right)
    return 2 * (Counter(said) & Counter(right)).total() / (len(said) + len(right))
