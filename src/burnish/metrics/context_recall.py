"""How many of the right passages are shown."""

from collections.abc import Sequence
from typing import ClassVar

from burnish.metrics import Grades, Metric, Ranking, require_relevant


class ContextRecall(Metric):
    """The share of a question's right passages that stand among those shown."""

    reads: ClassVar[str] = "shown"

    @property
    def label(self) -> str:
        """`context recall`."""
        return "context recall"

    def score(self, predictions: Sequence[Ranking], references: Sequence[Grades]) -> list[float]:
        """Return the recall of each question's passages.

        Raises:
            DataError: a question has no right passage.
        """
        rights = require_relevant(references, self.label)
        return [len(right & set(shown)) / len(right) for shown, right in zip(predictions, rights, strict=True)]
