"""MCC: how far predicted and right classes correlate, whatever the classes' shares."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from burnish.metrics import Floats, Metric, quotient


class Mcc(Metric):
    """Matthews correlation coefficient for any number of classes, from the confusion matrix (Gorodkin 2004).

    (c·n − Σ_k p_k·t_k) / √((n² − Σ p_k²)(n² − Σ t_k²)), where c of n examples are right, class k is predicted p_k times
    and is right t_k times: all that the formula needs of the matrix are its diagonal's sum and its margins.
    Range -1…1; 0 for guessing, and where all predictions or all references are of one class.
    Equal to scikit-learn's matthews_corrcoef. Source: doi 10.1016/j.compbiolchem.2004.09.006.
    """

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    @property
    def label(self) -> str:
        """`MCC`."""
        return "MCC"

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> Floats:
        """Return (examples, 1 + 2 · classes): right or not, then the class predicted and the right class as 0 and 1."""
        column = {label: place for place, label in enumerate(sorted({*predictions, *references}))}
        classes = len(column)
        counts = np.zeros((len(references), 1 + 2 * classes))
        for row, (label, right) in enumerate(zip(predictions, references, strict=True)):
            counts[row, 0] = label == right
            counts[row, 1 + column[label]] = counts[row, 1 + classes + column[right]] = 1
        return counts

    def paired_statistics(
        self, ours: Sequence[str], theirs: Sequence[str], references: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """Return the statistics of two systems over the classes that either of them met."""
        both = self.statistics([*ours, *theirs], [*references, *references])
        return both[: len(ours)], both[len(ours) :]

    def combine(self, totals: Floats) -> Floats:
        """Return the coefficient from (…, 1 + 2 · classes) counts."""
        right, margins = totals[..., 0], totals[..., 1:]
        predicted, true = np.split(margins, 2, axis=-1)
        n = true.sum(axis=-1)
        shared = right * n - (predicted * true).sum(axis=-1)
        spread = np.sqrt((n**2 - (predicted**2).sum(axis=-1)) * (n**2 - (true**2).sum(axis=-1)))
        return np.clip(quotient(shared, spread), -1.0, 1.0)
