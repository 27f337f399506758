"""Answer recall: whether one of the first k passages says a right answer, where no passage is judged."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from burnish.metrics import Answers, Metric, require_answers
from burnish.text import normal


class AnswerRecall(Metric):
    """1 where a right answer stands in one of the first k passages, word for word, else 0.

    Words are compared casefolded, without punctuation, whole: `car` does not stand in `cart`. The top-k accuracy of
    Karpukhin et al. 2020 (arXiv 2004.04906), which needs no judged passages; one that says the answer by chance counts.
    """

    reads: ClassVar[str] = "passages"

    k: int = Field(default=5, ge=1)

    @property
    def label(self) -> str:
        """`answer recall@5` for k = 5."""
        return f"answer recall@{self.k}"

    def score(self, predictions: Sequence[Sequence[str]], references: Sequence[Answers]) -> list[float]:
        """Return 1 or 0 for each question. predictions: the texts of its passages, best first.

        Raises:
            DataError: a question has no right answer: callers leave such questions out beforehand, and count them.
        """
        scores = []
        for passages, rights in zip(predictions, require_answers(references), strict=True):
            texts = [f" {normal(passage)} " for passage in passages[: self.k]]
            wanted = [f" {found} " for right in rights if (found := normal(right))]
            scores.append(float(any(answer in text for answer in wanted for text in texts)))
        return scores
