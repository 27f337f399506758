"""Which labels are taken for which."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from burnish.errors import DataError, near_miss


def confusion(predictions: Sequence[str], references: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return (labels, labels) counts: row i, column j is how often label j was predicted where label i is right.

    labels: all that there are, each once, in the order of rows and columns.

    Raises:
        DataError: a prediction or a reference is none of them; the message names the nearest.
    """
    column = {label: place for place, label in enumerate(labels)}
    assert len(column) == len(labels), f"a label stands twice: {labels}"
    for name, found in (("prediction", predictions), ("reference", references)):
        for place, label in enumerate(found, start=1):
            if label not in column:
                raise DataError(
                    f"{name} {place} of {len(found)}: {label!r} is not one of the labels "
                    f"[{', '.join(labels)}].{near_miss(label, labels)}"
                )
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for label, right in zip(predictions, references, strict=True):
        table[column[right], column[label]] += 1
    return table
