"""Check: what a recipe will do and cost, before anything is done."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from burnish.ladder_recipe import Ladder
from burnish.prepare.coverage import training_coverage
from burnish.recipe import SIDES, Recipe, read_recipe
from burnish.records import Pair, Record
from burnish.sequences import Joined
from burnish.steps.estimate import estimate

LADDER_KEYS = {"rungs", "corpus"}


def check(path: Path, overrides: Sequence[str]) -> list[str]:
    """Validate a recipe, read its rows, and estimate memory and time; return lines for a person. Trains nothing."""
    if _is_ladder(path):
        return _check_ladder(read_recipe(path, Ladder, overrides))
    recipe = read_recipe(path, Recipe, overrides)
    sets = recipe.data.sets(recipe.task.record)
    rows = Joined(sets)
    dev, test = (recipe.data.rows(side, recipe.task.record) for side in SIDES[1:])
    rehearsed, general = recipe.data.rehearsed(recipe.task.record), recipe.data.general_rows(recipe.task.record)
    kind = "pairs" if any(isinstance(row, Pair) for row in general[:1]) else "texts"
    counted = f"rows: {len(rows)} to train on, {len(dev)} to score while training, {len(test)} to test on"
    beside = [f"{len(rehearsed)} to rehearse"] * bool(rehearsed) + [f"{len(general)} general {kind}"] * bool(general)
    sizes = [len(found) for found in sets] if len(sets) > 1 else []
    settled = recipe.model_copy(update={"task": recipe.task.settled(Joined([rows, rehearsed]))})
    spread = [
        line for place, found in zip(recipe.data.training_places, sets, strict=True) for line in _spread(place, found)
    ]
    return [", ".join([counted, *beside]), *spread, *estimate(settled, rows, rehearsed, sizes=sizes)]


def _spread(place: str, rows: Sequence[Record]) -> list[str]:
    """Return which passages have training questions, where the rows are pairs."""
    pairs = [row for row in rows if isinstance(row, Pair)]
    return training_coverage(place, pairs).lines() if pairs else []


def _check_ladder(recipe: Ladder) -> list[str]:
    """Read the ladder's source and count; its trainings are estimated when their rows exist."""
    source = recipe.corpus.reader.load()
    return [
        f"source: {len(source.chunks)} passages, {len(source.questions)} questions, {len(source.rejected)} left out",
        f"rungs: {len(recipe.rungs)}, of which {len([r for r in recipe.rungs if r.generator])} write answers",
        f"answers: {recipe.answer_questions} questions each",
    ]


def _is_ladder(path: Path) -> bool:
    """Tell a ladder from a training recipe by its keys; what is wrong with the file is told by `read_recipe`."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(value, dict) and bool(LADDER_KEYS & value.keys())
