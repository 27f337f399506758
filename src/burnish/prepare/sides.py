"""Sides of a table's rows: near-duplicates together, every label that is measured also learned, leaks counted."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from burnish.errors import DataError
from burnish.prepare.balance import labels_of
from burnish.prepare.leaks import Text, leaks
from burnish.prepare.look import Look
from burnish.prepare.stratify import split_stratified


def sides_of(look: Look, shares: Mapping[str, float], *, seed: int) -> tuple[list[str], int]:
    """Return each row's side, and how many rows were moved to the first side for a label that it would lack.

    shares: side to its share of the rows; the first side is the one to learn from.

    Raises:
        DataError: there are too few groups for the sides, or a side is left without a row.
    """
    labels = [labels_of(row) for row in look.stand_ins]
    sides = split_stratified(look.units, labels, shares=shares, seed=seed)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for place, unit in enumerate(look.units):
        rows_of[unit].append(place)
    learnt = next(iter(shares))
    learned = {label for found, side in zip(labels, sides, strict=True) if side == learnt for label in found}
    moved = 0
    for unit, found in zip(look.units, labels, strict=True):
        if learned.issuperset(found):
            continue
        for place in rows_of[unit]:
            learned.update(labels[place])
            moved += sides[place] != learnt
            sides[place] = learnt
    for side in shares:
        if side not in sides:
            raise DataError(
                f"no row is left for the {side} side: {len(rows_of)} groups of rows, and each label must be learned "
                "before it is measured. Give more rows of each label"
            )
    return sides, moved


def leaked(look: Look, sides: Sequence[str]) -> int:
    """Return how many texts of one side stand in another, word for word or nearly."""
    texts: dict[str, list[Text]] = defaultdict(list)
    for row, side in zip(look.stand_ins, sides, strict=True):
        texts[side].append(Text(row.id, row.text))
    return sum(len(leaks(texts[one], texts[other])) for one, other in combinations(texts, 2))
