"""Evaluate: a trained run on rows that it has not seen, with intervals, and against another model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from burnish.errors import DataError, RunError
from burnish.evaluation.outcome import outcome, sentence
from burnish.evaluation.task import Evaluated, differences, prediction_lines
from burnish.evaluation.task import evaluate as score
from burnish.models.precision import allow_faster_fp32, chosen_dtype
from burnish.recipe import Recipe, read_recipe
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.run import Run, write_json, write_text
from burnish.steps.advice import advice
from burnish.tasks import Task


def evaluate(folder: Path, *, data: str | None, against: str | None, progress: Progress) -> dict[str, Any]:
    """Score the model of a run; return what `evaluation/NAME.json` holds.

    data: a table of the task's rows; the recipe's test rows where none is given. against: another run of the same
    task, or a model; its scores and the paired differences are told too.

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
    ours = of_model(task, str(folder / "model"), rows, seed=recipe.seed, progress=progress)
    theirs = of_model(task, _model(against), rows, seed=recipe.seed, progress=progress) if against else None
    return write_evaluation(
        run, Path(place).stem, task, rows, ours, theirs, seed=recipe.seed, extra={"data": place, "against": against}
    )


def of_model(task: Task, name: str, rows: Sequence[Record], *, seed: int, progress: Progress) -> Evaluated:
    """Load a model in the number format that suits this chip, and score it."""
    progress("loading the model", 0, 1)
    allow_faster_fp32()
    built = task.build(name, seed=seed)
    dtype = chosen_dtype()
    for weight in built.model.parameters():
        weight.data = weight.data.to(dtype)
    with torch.inference_mode():
        return score(task, built.model, built, rows, seed=seed, progress=progress)


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
        if said != "better":
            found["advice"] = advice(read_recipe(run.folder / "recipe.yaml", Recipe), run.folder)
    lines = prediction_lines(ours, rows)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(run.folder / "evaluation" / f"{name}.predictions.jsonl", text)
    write_json(run.folder / "evaluation" / f"{name}.json", found)
    return found


def _model(against: str) -> str:
    """Return the model that a run made, or the model itself."""
    return str(Path(against) / "model") if (Path(against) / "manifest.json").is_file() else against
