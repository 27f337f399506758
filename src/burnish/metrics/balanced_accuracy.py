"""Balanced accuracy: how often each class is recognised, every class alike."""

from collections.abc import Sequence

import numpy as np

from burnish.metrics import Floats, Metric, quotient


class BalancedAccuracy(Metric):
    """The mean over the classes of the share of their examples that are called right; rare classes count alike.

    Classes are those of the references, as in scikit-learn's `balanced_accuracy_score`. Always calling one class gives
    1 / classes. A resample without any example of a class is the mean over the others.
    """

    @property
    def label(self) -> str:
        """`balanced accuracy`."""
        return "balanced accuracy"

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> Floats:
        """Return (examples, 2 · classes): 1 in the class of the reference, then 1 there again if it is called right."""
        classes = {name: place for place, name in enumerate(sorted(set(references)))}
        found = np.zeros((len(references), 2, max(len(classes), 1)))
        for row, (said, right) in enumerate(zip(predictions, references, strict=True)):
            found[row, 0, classes[right]] = 1.0
            found[row, 1, classes[right]] = float(said == right)
        return found.reshape(len(references), 2 * found.shape[2])

    def combine(self, totals: Floats) -> Floats:
        """Return the mean over the classes that are there, (…), from (…, 2 · classes) sums."""
        counts, right = np.split(totals, 2, axis=-1)
        found: Floats = quotient(quotient(right, counts).sum(axis=-1), (counts > 0).sum(axis=-1).astype(np.float64))
        return found
