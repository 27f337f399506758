"""What trainings of one recipe in one folder have in common: the folder's claim, the rows, the steps."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from burnish.errors import RecipeError, RunError
from burnish.recipe import Recipe, to_yaml
from burnish.records import Record, records_fingerprint
from burnish.run import read_json, versions, write_json, write_text
from burnish.spec import Spec
from burnish.steps.train import Rows, Say
from burnish.train.batches import Plan
from burnish.train.processes import processes


def claim(folder: Path, recipe: Spec, rows: Iterable[Sequence[Record]], **facts: object) -> None:
    """Write the recipe into the folder, or check that the one that stands there is the same, on the same rows.

    rows: side by side. facts: what else must be as it was, by the name that a message calls it.

    Raises:
        RunError: the folder was begun otherwise, or several processes were started.
    """
    if processes().num_processes > 1:
        raise RunError(f"{folder}: one process at a time trains here; start it without torchrun or accelerate launch")
    text, path = to_yaml(recipe), folder / "recipe.yaml"
    asked = {"rows": records_fingerprint(row for side in rows for row in side), **facts}
    if not (folder / "started.json").is_file():
        write_text(path, text)
        write_json(folder / "started.json", {**asked, "versions": versions()})
        return
    earlier, begun = path.read_text(encoding="utf-8"), read_json(folder / "started.json")
    changed = sorted(set(text.splitlines()) ^ set(earlier.splitlines()))
    changed += [name for name, value in asked.items() if begun.get(name) != value]
    if changed:
        raise RunError(
            f"{folder}: this was begun with another recipe or other rows (it differs in {changed[0].strip()!r}); name "
            "another folder with --run, or remove this one"
        )


def require(side: str, place: str | None, why: str) -> None:
    """Check that the recipe names the rows of a side.

    Raises:
        RecipeError: it does not.
    """
    if place is None:
        raise RecipeError(f"data.{side}: {why}, and the recipe names no {side} rows; give some with data.{side}")


def for_training(recipe: Recipe, **changes: object) -> Recipe:
    """Return the recipe without what is scored once a run has ended, with changes of its training section.

    Test rows and general texts choose nothing, and every trial would spend time on them.
    """
    data = recipe.data.model_copy(update={"test": None, "general": None})
    return recipe.model_copy(update={"data": data, "training": recipe.training.model_copy(update=changes)})


def steps_of(recipe: Recipe, rows: Rows, *, train: int | None = None, epochs: float | None = None) -> int:
    """Return how many steps the recipe makes; train, epochs: other numbers than those of the rows and the recipe."""
    training, rehearsal = recipe.training, recipe.data.rehearsal
    tokens = (1,) * ((train or len(rows.train)) + len(rows.rehearsed))
    share = rehearsal.share if rehearsal else 0.0
    plan = Plan(tokens, training.batch, epochs or training.epochs, recipe.seed, len(rows.rehearsed), share)
    return plan.steps


def each_once(say: Say) -> Say:
    """Return what passes on a line the first time alone: trainings of one recipe have much to say in common."""
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return once
