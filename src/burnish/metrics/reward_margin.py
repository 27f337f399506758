"""Reward margin: how far the reward of the preferred answer lies above that of the other."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar

from burnish.metrics import Metric


class RewardMargin(Metric):
    """The difference of the rewards of the preferred answer and of the other, in the unit of the task's rewards.

    A prediction is this difference; references are not read. Where all are 0, a model is compared with itself, and they
    would be so in any other row.
    """

    reads: ClassVar[str] = "margins"
    bounds: ClassVar[tuple[float, float]] = (-inf, inf)
    certain: ClassVar[float | None] = 0.0

    @property
    def label(self) -> str:
        """`reward margin`."""
        return "reward margin"

    def score(self, predictions: Sequence[float], references: Sequence[object]) -> list[float]:  # noqa: ARG002
        """Return each margin."""
        return [*predictions]
