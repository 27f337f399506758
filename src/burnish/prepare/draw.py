"""A few rows of many, drawn by chance, with every label alike as far as there are rows."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from random import Random
from typing import Any

from burnish.errors import DataError
from burnish.records import Labelled


def drawn(rows: Sequence[Any], count: int, *, seed: int) -> list[Any]:
    """Return so many rows, a pure function of the seed; more rows of one seed begin with those of fewer.

    Labelled rows are drawn label by label in turn, in an order of labels that is drawn too; others from all.

    Raises:
        DataError: there are fewer rows.
    """
    if count > len(rows):
        raise DataError(f"{count} rows are to be drawn, and there are {len(rows)}")
    chance = Random(f"draw {seed}")
    by_label: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        by_label[row.label if isinstance(row, Labelled) else ""].append(row)
    piles = [chance.sample(pile, len(pile)) for _, pile in sorted(by_label.items())]
    chance.shuffle(piles)
    turns = chain.from_iterable(zip_longest(*piles))
    return [row for row in turns if row is not None][:count]
