"""Preference accuracy: how often the preferred answer has the higher reward."""

from collections.abc import Sequence
from typing import ClassVar

from burnish.metrics import Metric


class PreferenceAccuracy(Metric):
    """1 where the reward of the preferred answer is above that of the other, a half where they are equal, else 0.

    A prediction is the difference of the two rewards; references are not read. A half is what guessing scores, and
    what a model scores that is compared with itself.
    """

    reads: ClassVar[str] = "margins"

    @property
    def label(self) -> str:
        """`preference accuracy`."""
        return "preference accuracy"

    def score(self, predictions: Sequence[float], references: Sequence[object]) -> list[float]:  # noqa: ARG002
        """Return 1, 0.5 or 0 for each margin."""
        return [0.5 if margin == 0 else float(margin > 0) for margin in predictions]
