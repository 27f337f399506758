"""Items: a run's training rows, and those that are rehearsed beside them, tokenized and shown."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from torch import nn

from burnish.errors import DataError
from burnish.models.adapted import begin_from
from burnish.recipe import Recipe
from burnish.records import Record
from burnish.tasks import Built, Item
from burnish.train.batches import Plan
from burnish.train.mixing import Sets


class Items(NamedTuple):
    """What a run is trained on; the last `rehearsed` items are mixed into the others, as `share` of each step's."""

    items: Sequence[Item]
    rehearsed: int
    share: float
    notes: Mapping[str, int]  # rows that were cut short or left out, by reason
    sets: Sets | None = None  # that the other items are of, where there are several


def adapted(recipe: Recipe, built: Built) -> nn.Module:
    """Return the model as the recipe's method leaves it, with the weights of the adapter that it starts with, if any.

    Raises:
        ModelError: the method does not fit the model, or the start the method.
    """
    model = recipe.task.adapted_by(recipe.method).apply(built.model, fresh=built.fresh)
    if recipe.start:
        begin_from(model, Path(recipe.start))
    return model


def training_items(
    recipe: Recipe,
    rows: Sequence[Record],
    rehearsed: Sequence[Record],
    built: Built,
    *,
    say: Callable[[str], None],
    sizes: Sequence[int] = (),
) -> Items:
    """Tokenize the rows, and say what was cut or left out and what is trained.

    sizes: rows of each set, where the recipe names several.

    Raises:
        DataError: no row of a set is left to train on, or the recipe names a file to rehearse, and no row of it is.
    """
    task, rehearsal = recipe.task, recipe.data.rehearsal
    found, counts, notes = encoded_sets(recipe, rows, sizes, built)
    for reason, count in notes.items():
        say(f"{reason}: {count}")
    sets = recipe.data.mixed(counts, sizes)
    beside: Sequence[Item] = ()
    if rehearsal:
        encoded = task.encode(rehearsed, built)
        for reason, count in encoded.notes.items():
            say(f"rows to rehearse, {reason}: {count}")
        if not encoded.items:
            raise DataError(f"{rehearsal.file}: no row is left to rehearse: {encoded.notes}")
        say(f"rehearsed: {len(encoded.items)} items, {rehearsal.share:.0%} of each step's")
        beside = encoded.items
    items = task.joined(found, beside)
    made = Items(items, len(beside), rehearsal.share if rehearsal else 0.0, notes, sets)
    for line in [*mixture_lines(recipe, made), *task.audit(items, built)]:
        say(line)
    return made


def encoded_sets(
    recipe: Recipe, rows: Sequence[Record], sizes: Sequence[int], built: Built
) -> tuple[Sequence[Item], list[int], Mapping[str, int]]:
    """Return the items of all sets, how many are of each, and what was cut or left out, by reason.

    Raises:
        DataError: no row of a set is left to train on.
    """
    edges = [0, *accumulate(sizes or [len(rows)])]
    items: Sequence[Item] = ()
    counts, notes = [], Counter[str]()
    for place, (first, end) in zip(recipe.data.training_places, pairwise(edges), strict=True):
        encoded = recipe.task.encode(rows[first:end], built)
        if not encoded.items:
            raise DataError(f"{place}: no row is left to train on: {encoded.notes}")
        notes.update(encoded.notes)
        counts.append(len(encoded.items))
        items = recipe.task.joined(items, encoded.items) if items else encoded.items
    return items, counts, dict(notes)


def mixture_lines(recipe: Recipe, items: Items) -> list[str]:
    """Return what each of several sets has of the run; nothing where there is one."""
    if items.sets is None:
        return []
    training = recipe.training
    tokens = (1,) * len(items.items)
    plan = Plan(tokens, training.batch, training.epochs, recipe.seed, items.rehearsed, items.share, items.sets)
    of = f"{plan.steps:,} steps" if items.sets.one_set else f"{plan.batch:,} rows in each step"
    return [
        f"{place}: {size:,} items, {much:,} of {of}, each {often:.2f} times"
        for place, size, (much, often) in zip(
            recipe.data.training_places, items.sets.sizes, plan.of_sets(), strict=True
        )
    ]
