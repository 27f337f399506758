"""Accuracy: the label is the right one."""

from collections.abc import Sequence

from burnish.metrics import Metric


class Accuracy(Metric):
    """1 where the label is the right label, character for character, else 0."""

    @property
    def label(self) -> str:
        """`accuracy`."""
        return "accuracy"

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return 1 or 0 for each label."""
        return [float(label == right) for label, right in zip(predictions, references, strict=True)]
