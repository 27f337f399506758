"""Recall@k: the share of the relevant passages that stand among the first k."""

from collections.abc import Sequence

from pydantic import Field

from burnish.metrics import Grades, Metric, Ranking, require_relevant


class Recall(Metric):
    """Relevant passages among the first k, divided by all relevant passages, as trec_eval's recall_k.

    Range 0…1; with more than k relevant passages the best ranking reaches k / relevant, not 1.
    """

    k: int = Field(default=10, ge=1)

    @property
    def label(self) -> str:
        """`Recall@10` for k = 10."""
        return f"Recall@{self.k}"

    def score(self, predictions: Sequence[Ranking], references: Sequence[Grades]) -> list[float]:
        """Return the share found for each question.

        Raises:
            DataError: a question has no relevant passage: callers leave such questions out beforehand, and count them.
        """
        scores = []
        for ranking, relevant in zip(predictions, require_relevant(references, self.label), strict=True):
            scores.append(len(relevant.intersection(ranking[: self.k])) / len(relevant))
        return scores
