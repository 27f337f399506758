"""Whether answers abstain where the passages hold no answer, and only there."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from burnish.metrics import Floats, Metric, quotient


class Abstention(Metric):
    """1 where an answerable question was answered, or one that is not was not, else 0; or a share of such cases.

    of: `accuracy`, over all questions; `precision`, of those that were not answered, how many could not be; `recall`,
    of those that could not be answered, how many were not. The two shares are 0 where there is nothing to share.
    A question is answerable where a right passage is among those shown. What was answered may still be wrong.
    """

    reads: ClassVar[str] = "abstentions"

    of: Literal["accuracy", "precision", "recall"] = "accuracy"

    @property
    def label(self) -> str:
        """`abstention accuracy`, `abstention precision`, `abstention recall`."""
        return f"abstention {self.of}"

    @property
    def is_mean(self) -> bool:
        """The accuracy is a mean over questions."""
        return self.of == "accuracy"

    def score(self, predictions: Sequence[bool], references: Sequence[bool]) -> list[float]:
        """Return 1.0 or 0.0 for each question.

        predictions: whether it abstained. references: whether it could be answered.

        Raises:
            NotImplementedError: a share is asked for.
        """
        if not self.is_mean:
            return super().score(predictions, references)
        return [float(said != could) for said, could in zip(predictions, references, strict=True)]

    def statistics(self, predictions: Sequence[bool], references: Sequence[bool]) -> Floats:
        """Return (examples, 2): 1 where the question counts as right, and 1 where it counts at all."""
        said = np.array(predictions, dtype=bool)
        could = np.array(references, dtype=bool)
        counts = {"accuracy": np.ones(len(said), dtype=bool), "precision": said, "recall": ~could}[self.of]
        return np.stack([counts & (said != could), counts], axis=1).astype(np.float64)

    def combine(self, totals: Floats) -> Floats:
        """Return the share, (…), from (…, 2) sums."""
        return quotient(totals[..., 0], totals[..., 1])
