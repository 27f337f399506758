"""MRR@k: how far up the first relevant passage stands."""

from collections.abc import Sequence

from pydantic import Field

from burnish.metrics import Grades, Metric, Ranking, require_relevant


class Mrr(Metric):
    """Reciprocal rank of the first relevant passage among the first k, 0 if there is none; its mean is MRR@k.

    Range 0…1. Equal to trec_eval's recip_rank on a ranking cut at k.
    """

    k: int = Field(default=10, ge=1)

    @property
    def label(self) -> str:
        """`MRR@10` for k = 10."""
        return f"MRR@{self.k}"

    def score(self, predictions: Sequence[Ranking], references: Sequence[Grades]) -> list[float]:
        """Return 1 / rank, or 0, for each question.

        Raises:
            DataError: a question has no relevant passage: callers leave such questions out beforehand, and count them.
        """
        scores = []
        for ranking, relevant in zip(predictions, require_relevant(references, self.label), strict=True):
            ranks = (rank for rank, passage in enumerate(ranking[: self.k], start=1) if passage in relevant)
            first = next(ranks, None)
            scores.append(1 / first if first else 0.0)
        return scores
