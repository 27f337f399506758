"""How near answers are to their questions."""

from collections.abc import Sequence
from typing import Any, ClassVar

from burnish.metrics import Metric


class Relevance(Metric):
    """The cosine between the vectors of question and answer, at least 0, by an encoder: embedding tier, no judge.

    It tells answers that speak of something else, and no wrong ones: those are as near to their question as right ones.
    Short answers (a name, a date) lie far from any question, so compare systems whose answers are alike in length.
    `evaluation.measure` embeds the texts; an answer that abstains is as far from its question as what it says. 0…1.
    """

    reads: ClassVar[str] = "relevance"

    model: str = "embedded/minilm"  # any encoder that loads by name; texts are read as its queries and its passages

    @property
    def label(self) -> str:
        """What was compared by what: `relevance (embedded/minilm)`."""
        return f"relevance ({self.model})"

    def score(self, predictions: Sequence[float], references: Sequence[Any]) -> list[float]:
        """Return the cosine of each answer with its question, 0 where it is negative; references are not read."""
        assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
        return [min(1.0, max(0.0, cosine)) for cosine in predictions]
