"""Whether the right passages stand first among those shown."""

from collections.abc import Sequence
from typing import ClassVar

from burnish.metrics import Grades, Metric, Ranking, require_relevant


class ContextPrecision(Metric):
    """Average precision of the passages shown: the mean of precision@i over the places i of right passages.

    Σ_i precision@i · right_i / (right passages shown); 0 where none is shown. It says how the prompt's room is used;
    what was not shown is the matter of context recall.
    """

    reads: ClassVar[str] = "shown"

    @property
    def label(self) -> str:
        """`context precision`."""
        return "context precision"

    def score(self, predictions: Sequence[Ranking], references: Sequence[Grades]) -> list[float]:
        """Return the precision of each question's passages.

        Raises:
            DataError: a question has no right passage.
        """
        found = []
        for shown, right in zip(predictions, require_relevant(references, self.label), strict=True):
            places = [place for place, passage in enumerate(shown, start=1) if passage in right]
            precisions = [number / place for number, place in enumerate(places, start=1)]
            found.append(sum(precisions) / len(precisions) if precisions else 0.0)
        return found
