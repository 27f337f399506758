"""How far answers stand in the passages that they were shown."""

from collections.abc import Sequence
from typing import Any, ClassVar

from burnish.claims import Grounded as Judged
from burnish.metrics import Metric


class Grounded(Metric):
    """The support of an answer's least supported claim, 0…1; the mean over answers is their faithfulness.

    Which tier says so, words, a network or a judge, stands in the ladder's `grounding`. An answer that claims nothing
    scores 0, unless it abstains: then nothing in it is without support, and it scores 1.
    What could not be judged has no score: it is left out beforehand, counted by kind.
    """

    reads: ClassVar[str] = "grounding"

    @property
    def label(self) -> str:
        """`grounded`."""
        return "grounded"

    def score(self, predictions: Sequence[Judged], references: Sequence[Any]) -> list[float]:
        """Return the score of each answer; references are not read."""
        assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
        return [judged.score for judged in predictions]
