"""nDCG@k: the relevant passages found, weighted by grade and by how far up they stand."""

from collections.abc import Sequence
from math import log2

from pydantic import Field

from burnish.metrics import Grades, Metric, Ranking, require_relevant


class Ndcg(Metric):
    """Normalised discounted cumulative gain of the first k passages, as trec_eval's ndcg_cut_k: the gain is the grade.

    DCG@k = Σ_{i≤k} grade_i / log2(i + 1); divided by the DCG@k of all relevant passages in descending order of grade.
    Range 0…1. Source: Järvelin and Kekäläinen 2002 (doi 10.1145/582415.582418).
    """

    k: int = Field(default=10, ge=1)

    @property
    def label(self) -> str:
        """`nDCG@10` for k = 10."""
        return f"nDCG@{self.k}"

    def score(self, predictions: Sequence[Ranking], references: Sequence[Grades]) -> list[float]:
        """Return the nDCG@k of each question; a ranking shorter than k counts as it is, an empty one as 0.

        Raises:
            DataError: a question has no relevant passage: callers leave such questions out beforehand, and count them.
        """
        scores = []
        relevant = require_relevant(references, self.label)
        for ranking, grades, passages in zip(predictions, references, relevant, strict=True):
            gains = {passage: grades[passage] for passage in passages}
            top = ranking[: self.k]
            assert len(set(top)) == len(top), f"a ranking holds a passage twice: {top}"
            ideal = sorted(gains.values(), reverse=True)[: self.k]
            scores.append(_discounted([gains.get(passage, 0) for passage in top]) / _discounted(ideal))
        return scores


def _discounted(gains: Sequence[int]) -> float:
    """Return Σ gain_i / log2(i + 1), i from 1."""
    return sum(gain / log2(i + 1) for i, gain in enumerate(gains, start=1))
