"""The threshold that makes a verdict of a score: chosen on rows whose verdict is known, and on no others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from burnish.errors import DataError


class Threshold(NamedTuple):
    """From which score on the verdict is yes, and the balanced accuracy on the rows that it was chosen on."""

    value: float
    balanced_accuracy: float


def calibrated(scores: Sequence[float], right: Sequence[bool]) -> Threshold:
    """Return the threshold with the highest balanced accuracy, halfway between the scores on its two sides.

    Of several that are as good, the one in the middle of them. What it reaches here is higher than elsewhere.

    Raises:
        DataError: there is no row of one of the two verdicts, so that there is nothing to tell apart.
    """
    truth = _both_kinds(right)
    values, places = np.unique(np.array(scores, dtype=np.float64), return_inverse=True)
    yes = np.bincount(places, weights=truth, minlength=len(values))
    no = np.bincount(places, weights=~truth, minlength=len(values))
    above_yes = np.concatenate([[yes.sum()], yes.sum() - np.cumsum(yes)])  # with the cut before each value, and at last
    below_no = np.concatenate([[0.0], np.cumsum(no)])
    found = (above_yes / yes.sum() + below_no / no.sum()) / 2
    best = np.flatnonzero(found >= found.max() - 1e-12)
    cut = int(best[len(best) // 2])
    if cut in (0, len(values)):  # nothing is told apart: all scores lie on one side
        return Threshold(float(values[0] if cut == 0 else np.nextafter(values[-1], np.inf)), float(found[cut]))
    return Threshold(float((values[cut - 1] + values[cut]) / 2), float(found[cut]))


def area_under_roc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Return the chance that a right row has a higher score than a wrong one, equal ones counting half.

    It is Mann and Whitney's statistic over the pairs (Hanley and McNeil 1982, doi 10.1148/radiology.143.1.7063747).

    Raises:
        DataError: there is no row of one of the two verdicts.
    """
    truth = _both_kinds(right)
    yes = int(truth.sum())
    return float((rankdata(scores)[truth].sum() - yes * (yes + 1) / 2) / (yes * (len(truth) - yes)))


def _both_kinds(right: Sequence[bool]) -> NDArray[np.bool_]:
    """Return the verdicts.

    Raises:
        DataError: they are all the same.
    """
    truth = np.array(right, dtype=bool)
    if not 0 < truth.sum() < len(truth):
        raise DataError(
            f"a threshold is chosen between two kinds of rows, and of {len(truth)} rows {int(truth.sum())} are of the "
            "one kind; rows of both are needed"
        )
    return truth
