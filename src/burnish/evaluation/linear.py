"""A linear probe: how much a model's own vectors tell of labels or numbers, before anything is trained."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from burnish.evaluation.score import Floats

ALPHAS = np.logspace(-1, 5, 7)  # of the penalty on squared weights, each a tenth of the next


def probed_labels(
    vectors: Floats, labels: Sequence[tuple[str, ...]], folds: Sequence[str], *, many: bool
) -> list[str] | list[tuple[str, ...]]:
    """Return the label of each row, or with `many` its labels, as a linear probe of the other folds gives it.

    vectors: (rows, width). One regression to -1 and 1 for each label: the likeliest label, or all above 0.
    """
    names = sorted({label for found in labels for label in found})
    targets = np.array([[1.0 if name in found else -1.0 for name in names] for found in labels])
    outputs = cross_validated(vectors, targets, folds)
    if many:
        return [tuple(name for name, value in zip(names, row, strict=True) if value > 0) for row in outputs]
    return [names[place] for place in outputs.argmax(axis=1)]


def probed_scores(vectors: Floats, scores: Sequence[float], folds: Sequence[str]) -> list[float]:
    """Return the number of each row as a linear probe of the other folds gives it; vectors: (rows, width)."""
    found: list[float] = cross_validated(vectors, np.array(scores, dtype=np.float64)[:, None], folds)[:, 0].tolist()
    return found


def cross_validated(vectors: Floats, targets: Floats, folds: Sequence[str]) -> Floats:
    """Return (rows, outputs): ridge regression on standardised vectors, fitted on all folds but the row's own.

    vectors: (rows, width). targets: (rows, outputs). The penalty is the one of seven that leaves the smallest error on
    rows left out one by one, which ridge regression tells without fitting anew (Golub, Heath and Wahba 1979).
    """
    names, found = np.array(folds), np.empty(targets.shape)
    for fold in sorted(set(folds)):
        inside = names == fold
        scaler = StandardScaler().fit(vectors[~inside])
        ridge = RidgeCV(alphas=ALPHAS).fit(scaler.transform(vectors[~inside]), targets[~inside])
        found[inside] = ridge.predict(scaler.transform(vectors[inside])).reshape(-1, targets.shape[1])
    return found


def joined_vectors(first: Floats, second: Floats) -> Floats:
    """Return what a probe reads of a pair, (rows, 4 · width): both vectors, their distance and their product.

    Source: Conneau et al. 2017 (InferSent, arXiv 1705.02364).
    """
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)
