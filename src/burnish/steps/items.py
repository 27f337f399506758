"""Items: a run's training rows, and those that are rehearsed beside them, tokenized and shown."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from burnish.errors import DataError
from burnish.recipe import Recipe
from burnish.records import Record
from burnish.tasks import Built, Item


class Items(NamedTuple):
    """What a run is trained on; the last `rehearsed` items are mixed into the others, as `share` of each step's."""

    items: Sequence[Item]
    rehearsed: int
    share: float
    notes: Mapping[str, int]  # rows that were cut short or left out, by reason


def training_items(
    recipe: Recipe, rows: Sequence[Record], rehearsed: Sequence[Record], built: Built, *, say: Callable[[str], None]
) -> Items:
    """Tokenize the rows, and say what was cut or left out and what is trained.

    Raises:
        DataError: no row is left to train on, or the recipe names a file to rehearse, and no row of it is left.
    """
    task, rehearsal = recipe.task, recipe.data.rehearsal
    encoded = task.encode(rows, built)
    for reason, count in encoded.notes.items():
        say(f"{reason}: {count}")
    if not encoded.items:
        raise DataError(f"{recipe.data.train}: no row is left to train on: {encoded.notes}")
    beside: Sequence[Item] = ()
    if rehearsal:
        found = task.encode(rehearsed, built)
        for reason, count in found.notes.items():
            say(f"rows to rehearse, {reason}: {count}")
        if not found.items:
            raise DataError(f"{rehearsal.file}: no row is left to rehearse: {found.notes}")
        say(f"rehearsed: {len(found.items)} items, {rehearsal.share:.0%} of each step's")
        beside = found.items
    items = task.joined(encoded.items, beside)
    for line in task.audit(items, built):
        say(line)
    return Items(items, len(beside), rehearsal.share if rehearsal else 0.0, encoded.notes)
