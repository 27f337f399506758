"""Exact match: the answer is one of the right answers."""

from collections.abc import Sequence

from burnish.metrics import Answers, Metric, require_answers
from burnish.text import answer_form


class ExactMatch(Metric):
    """1 where the answer equals one of the right answers in the form in which SQuAD compares them, else 0.

    That form ignores case, ASCII punctuation, English articles and how wide a space is: `The "zipfile.is_zipfile"`
    equals `zipfile.is_zipfile`. Source: Rajpurkar et al. 2016 (arXiv 1606.05250).
    """

    @property
    def label(self) -> str:
        """`exact match`."""
        return "exact match"

    def score(self, predictions: Sequence[str], references: Sequence[Answers]) -> list[float]:
        """Return 1 or 0 for each answer.

        Raises:
            DataError: a question has no right answer: callers leave such questions out beforehand, and count them.
        """
        scores = []
        for answer, rights in zip(predictions, require_answers(references), strict=True):
            scores.append(float(answer_form(answer) in {answer_form(right) for right in rights}))
        return scores
