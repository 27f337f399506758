"""Evaluate: a trained run on rows that it has not seen, with intervals, and against another model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from burnish.errors import DataError, RecipeError, RunError
from burnish.evaluation.outcome import outcome, sentence
from burnish.evaluation.task import Evaluated, differences, prediction_lines
from burnish.evaluation.task import evaluate as score
from burnish.models.merge import merged
from burnish.models.precision import chosen_dtype
from burnish.recipe import Recipe, read_recipe, to_yaml
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.run import Run, write_json, write_text
from burnish.steps.advice import advice
from burnish.tasks import Built, Task


def evaluate(folder: Path, *, data: str | None, against: str | None, progress: Progress) -> dict[str, Any]:
    """Score the model of a run; return what `evaluation/NAME.json` holds.

    data: a table of the task's rows; the recipe's test rows where none is given. against: another run of the same
    task, a recipe, whose model is then scored as it is, or a model; its scores and the paired differences are told too.
    A run and a recipe put the rows to their model with the examples that they ask for themselves (`data.shots`).

    Raises:
        RunError: the run is not finished.
        DataError: neither the call nor the recipe names rows.
    """
    run = Run.open(folder)
    if run.manifest["status"] != "finished":
        raise RunError(f"{folder}: this run has no model yet; `burnish resume {folder}` goes on with it")
    recipe = read_recipe(folder / "recipe.yaml", Recipe)
    task: Task = recipe.task
    place = data or recipe.data.test
    if place is None:
        raise DataError(f"{folder}: the recipe names no test rows (data.test); give some with --data")
    rows = recipe.data.rows_at(place, "test", task.record)
    asked = recipe.data.prompted(rows, task.record)
    ours = of_model(task, _own_model(folder, recipe), asked, seed=recipe.seed, progress=progress)
    theirs = None
    if against:
        model, put = _other(against, recipe, rows)
        theirs = of_model(task, model, put, seed=recipe.seed, progress=progress)
    return write_evaluation(
        run, Path(place).stem, task, rows, ours, theirs, seed=recipe.seed, extra={"data": place, "against": against}
    )


def folder_of(source: Path, run: Path | None, overrides: Sequence[str]) -> Path:
    """Return the run that is to be scored: a folder itself, or that of a recipe whose model is scored as it is.

    Raises:
        RecipeError: a folder comes with what is a recipe's.
    """
    if source.suffix in (".yaml", ".yml"):
        return untrained(read_recipe(source, Recipe, overrides), run or Path("runs") / source.stem)
    if run or overrides:
        raise RecipeError(f"{source}: --run and --set go with a recipe; this run says itself what it is")
    return source


def untrained(recipe: Recipe, folder: Path) -> Path:
    """Make the run of a recipe that trains nothing: its model as it is can then be evaluated; return the folder.

    What stands there is used again where it is of the same recipe.

    Raises:
        RunError: another run stands there.
    """
    text, manifest = to_yaml(recipe), folder / "manifest.json"
    same = manifest.is_file() and (folder / "recipe.yaml").read_text(encoding="utf-8") == text
    if not same or (folder / "model").exists():
        run = Run.create(folder, recipe=text, manifest={"seed": recipe.seed, "rows": 0})
        run.finish(trainable=0, parameters=None, notes={}, steps=0, best=None, best_step=None, stopped_early=None)
    return folder


def of_model(task: Task, name: str, rows: Sequence[Record], *, seed: int, progress: Progress) -> Evaluated:
    """Load a model as `ready` does, and score it."""
    progress("loading the model", 0, 1)
    built = ready(task, name, seed=seed)
    with torch.inference_mode():
        return score(task, built.model, built, rows, seed=seed, progress=progress)


def ready(task: Task, name: str, *, seed: int = 0) -> Built:
    """Load a model to predict with: in the number format that suits this chip, an adapter merged into its base."""
    built = task.build(name, seed=seed)
    merged(built.model)
    dtype = chosen_dtype()
    for weight in built.model.parameters():
        weight.data = weight.data.to(dtype)
    built.model.eval()
    return built


def write_evaluation(
    run: Run,
    name: str,
    task: Task,
    rows: Sequence[Record],
    ours: Evaluated,
    theirs: Evaluated | None,
    *,
    seed: int,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Write `evaluation/NAME.json` and `NAME.predictions.jsonl` into the run; return what the first holds.

    The run's own scores are `scores`, those of what it is held against `before`, the paired differences `gain`. What
    the first metric says is put into words (`outcome`, `verdict`); where that is not better, `advice` says what may
    help.
    """
    found: dict[str, Any] = {**extra, "n": len(rows), "seed": seed, "scores": ours.scores}
    if theirs is not None:
        found |= {"before": theirs.scores, "gain": differences(task, ours, theirs, rows, seed=seed)}
        metric = task.metrics[0]
        gain = found["gain"][metric.label]
        said = outcome(gain, higher_is_better=metric.higher_is_better)
        found |= {"outcome": said, "verdict": sentence(metric.label, gain, said, than=str(extra["against"]))}
        if said != "better" and (run.folder / "model").is_dir():
            found["advice"] = advice(read_recipe(run.folder / "recipe.yaml", Recipe), run.folder)
    lines = prediction_lines(ours, rows)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(run.folder / "evaluation" / f"{name}.predictions.jsonl", text)
    write_json(run.folder / "evaluation" / f"{name}.json", found)
    return found


def _own_model(folder: Path, recipe: Recipe) -> str:
    """Return the model that a run made, or its recipe's where it trained nothing."""
    return str(folder / "model") if (folder / "model").is_dir() else recipe.model


def _other(against: str, recipe: Recipe, rows: Sequence[Record]) -> tuple[str, Sequence[Record]]:
    """Return the model that a run is held against, and the rows as they are put to it.

    Raises:
        RunError: it is a run or a recipe of rows of another kind.
    """
    place, record = Path(against), recipe.task.record
    is_run, is_recipe = (place / "manifest.json").is_file(), place.suffix in (".yaml", ".yml") and place.is_file()
    if not is_run and not is_recipe:
        return against, recipe.data.prompted(rows, record)
    other = read_recipe(place / "recipe.yaml" if is_run else place, Recipe)
    if other.task.record is not record:
        raise RunError(
            f"{against}: its task {other.task.kind} reads a {other.task.record.__name__} a row, and the run's task "
            f"{recipe.task.kind} a {record.__name__}; the same rows are needed to compare"
        )
    return _own_model(place, other) if is_run else other.model, other.data.prompted(rows, record)
