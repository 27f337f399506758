"""Classes of unequal size: weights that make up for it, and copies or cuts of the training rows."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from burnish.errors import DataError
from burnish.records import Labelled
from burnish.text import fingerprint

BETA = 0.999  # a class is worth at most 1 / (1 - β) = 1,000 rows; 0.9 and 0.99 suit smaller data, 0.9999 larger


@dataclass(frozen=True, slots=True)
class Resampled:
    """The rows of the training side after copies were added or rows left out."""

    rows: list[Labelled]
    change: Mapping[str, int]  # by class, of those that changed: rows added (above 0) or left out (below)


def labels_of(row: Labelled) -> tuple[str, ...]:
    """Return the different labels of a row: the one, or any number of them."""
    return (row.label,) if isinstance(row.label, str) else tuple(dict.fromkeys(row.label))


def labels_to_learn(rows: Sequence[Labelled]) -> list[str]:
    """Return the different labels of training rows, in alphabetical order.

    Raises:
        DataError: there are fewer than two.
    """
    found = sorted({label for row in rows for label in labels_of(row)})
    if len(found) < 2:
        raise DataError(f"the training rows have {len(found)} label ({', '.join(found)}); at least two are needed")
    return found


def inverse_weights(labels: Iterable[str]) -> dict[str, float]:
    """Return the weight of each class by inverse frequency: w_c = n / (K · n_c), for n rows in K classes.

    labels: one a row; where a row has several, each of them counts as a row.
    The mean over rows is 1, so that a loss keeps its scale; the sum over rows is the same for every class.
    """
    counts = Counter(labels)
    rows = counts.total()
    return {label: rows / (len(counts) * count) for label, count in counts.items()}


def effective_weights(labels: Iterable[str], *, beta: float = BETA) -> dict[str, float]:
    """Return the weight of each class by effective number: w_c ∝ (1 - β) / (1 - β^n_c), with a mean over rows of 1.

    labels: as in `inverse_weights`.
    beta: in [0, 1). At 0 all classes weigh the same; close to 1 the weights are those of `inverse_weights`.
    Source: Cui et al. 2019 (arXiv 1901.05555), where the weights add up to K instead.
    """
    counts = Counter(labels)
    plain = {label: 1 / effective_number(count, beta=beta) for label, count in counts.items()}
    scale = counts.total() / sum(counts[label] * weight for label, weight in plain.items()) if counts else 1.0
    return {label: scale * weight for label, weight in plain.items()}


def effective_number(rows: int, *, beta: float = BETA) -> float:
    """Return what so many rows of a class are worth: E = (1 - β^n) / (1 - β), from 1 for one row to 1 / (1 - β).

    A row adds less the more there are, since it is likelier to say again what others say.
    Source: Cui et al. 2019 (arXiv 1901.05555), proposition 1.

    Raises:
        ValueError: beta is not in [0, 1), or there is no row.
    """
    if not 0 <= beta < 1 or rows < 1:
        raise ValueError(f"beta must be in [0, 1), and a class needs rows (found beta {beta}, {rows} rows)")
    return (1 - beta**rows) / (1 - beta)


def oversample(rows: Sequence[Labelled], *, ratio: float, seed: int) -> Resampled:
    """Copy rows of small classes until each has at least `ratio` times the rows of the largest. For training rows only.

    ratio: in (0, 1]; 1 makes all classes equal. The rows of a class are copied in an order made by a hash of id and
    seed, each once before any twice. A copy of row `17` is called `17#2`, the next `17#3`. It keeps the row's group;
    where the row has none, row and copies get the row's id as theirs, so that no later split can part them. Copies come
    after the rows.

    Raises:
        ValueError: the ratio is not in (0, 1].
        DataError: a row has several labels.
    """
    _check_ratio(ratio)
    members = _by_label(rows, seed)
    target = math.ceil(ratio * max(map(len, members.values()), default=0) - 1e-9)
    taken = {row.id for row in rows}
    groups: dict[str, str] = {}  # of the rows that were copied
    copies: list[Labelled] = []
    change: dict[str, int] = {}
    for label, found in members.items():
        missing = target - len(found)
        for place in range(missing):
            row = found[place % len(found)]
            groups[row.id] = row.group or row.id
            key = _free_id(row.id, 2 + place // len(found), taken)
            copies.append(row.model_copy(update={"id": key, "group": groups[row.id]}))
        if missing > 0:
            change[label] = missing
    originals = [row.model_copy(update={"group": groups.get(row.id, row.group)}) for row in rows]
    return Resampled([*originals, *copies], change)


def undersample(rows: Sequence[Labelled], *, ratio: float, seed: int) -> Resampled:
    """Leave out rows of large classes until the smallest has at least `ratio` times theirs. For training rows only.

    ratio: in (0, 1]; 1 makes all classes equal. Which rows stay is a matter of a hash of id and seed, and not of their
    order, which is kept.

    Raises:
        ValueError: the ratio is not in (0, 1].
        DataError: a row has several labels.
    """
    _check_ratio(ratio)
    members = _by_label(rows, seed)
    most = math.floor(min(map(len, members.values()), default=0) / ratio + 1e-9)
    kept = {row.id for found in members.values() for row in found[:most]}
    change = {label: most - len(found) for label, found in members.items() if len(found) > most}
    return Resampled([row for row in rows if row.id in kept], change)


def _by_label(rows: Sequence[Labelled], seed: int) -> dict[str, list[Labelled]]:
    """Return the rows of each class in the order of a hash; the classes as they first come.

    Raises:
        DataError: a row has several labels, so that a copy for one of them would be one for the others too.
    """
    members: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        if not isinstance(row.label, str):
            raise DataError(
                f"row {row.id!r} has a list of labels, and rows can be copied or left out for one label alone; weigh "
                "the classes instead"
            )
        members[row.label].append(row)
    return {
        label: sorted(found, key=lambda row: (fingerprint(str(seed), row.id), row.id))
        for label, found in members.items()
    }


def _free_id(origin: str, number: int, taken: set[str]) -> str:
    """Return the first free id of a copy from a number on, and take it."""
    while (key := f"{origin}#{number}") in taken:
        number += 1
    taken.add(key)
    return key


def _check_ratio(ratio: float) -> None:
    """Check the share of the largest class that the smallest is to have.

    Raises:
        ValueError: it is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be above 0 and at most 1 (found {ratio})")
