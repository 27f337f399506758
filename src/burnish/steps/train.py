"""Train: a recipe in, a run folder with a model out."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from burnish.errors import DataError, RunError
from burnish.recipe import Recipe, read_recipe, to_yaml
from burnish.records import Record, read_jsonl, records_fingerprint
from burnish.retrievers import Progress
from burnish.run import Run, locked, new_folder
from burnish.tasks import Built
from burnish.text import fingerprint
from burnish.train.check import require_trainable
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, Outcome, Watch, fit
from burnish.train.processes import processes

Say = Callable[[str], None]


def train(recipe: Recipe, folder: Path, *, say: Say, progress: Progress) -> Run:
    """Train the recipe's model in a new run folder."""
    rows, dev = _rows(recipe)
    group = processes()
    with locked(folder) if group.is_main_process else nullcontext():
        if group.is_main_process:
            Run.create(folder, recipe=to_yaml(recipe), manifest={"seed": recipe.seed, "rows": len(rows)})
        group.wait_for_everyone()
        return _train(recipe, Run.open(folder), rows, dev, say=say, progress=progress)


def resume(folder: Path, *, say: Say, progress: Progress) -> Run:
    """Go on with a run that was stopped, from its newest good checkpoint.

    Raises:
        RunError: the run is finished.
    """
    run = Run.open(folder)
    if run.manifest["status"] == "finished":
        raise RunError(f"{folder}: this run is finished; its model is in {folder / 'model'}")
    recipe = read_recipe(folder / "recipe.yaml", Recipe)
    with locked(folder) if processes().is_main_process else nullcontext():
        return _train(recipe, run, *_rows(recipe), say=say, progress=progress)


def _rows(recipe: Recipe) -> tuple[list[Record], list[Record]]:
    """Read the rows before anything is created, so that a faulty file leaves no trace."""
    dev = read_jsonl(recipe.data.dev, recipe.task.record) if recipe.data.dev else []
    return read_jsonl(recipe.data.train, recipe.task.record), dev


def _train(recipe: Recipe, run: Run, rows: list[Record], dev: list[Record], *, say: Say, progress: Progress) -> Run:
    """Build, adapt, audit, fit, save.

    Raises:
        DataError: no row is left to train on.
    """
    task, method, training = recipe.task, recipe.method, recipe.training
    group = processes()
    say = say if group.is_main_process else _silent
    progress("loading the model", 0, 1)
    torch.manual_seed(recipe.seed)  # what a method adds to the model is drawn from it
    built = task.build(recipe.model, seed=recipe.seed)
    model = method.apply(built.model, fresh=built.fresh)
    trainable, parameters = require_trainable(model, method)
    encoded = task.encode(rows, built)
    for reason, count in encoded.notes.items():
        say(f"{reason}: {count}")
    if not encoded.items:
        raise DataError(f"{recipe.data.train}: no row is left to train on: {encoded.notes}")
    for line in task.audit(encoded.items, built):
        say(line)
    for reason, count in task.encode(dev, built).notes.items() if dev else ():
        say(f"dev rows, {reason}: {count}")
    if group.num_processes > 1 and not task.divisible:
        say(f"{group.num_processes} processes: a row's in-batch negatives are those of its own process")

    def log(name: str, line: Mapping[str, object]) -> None:
        run.append(name, line)
        if name == "log.jsonl":
            progress(f"training ({task.kind})", int(str(line["step"])), int(str(line["of"])))

    course = Course(
        task=task,
        items=encoded.items,
        training=training,
        method=method,
        fresh=built.fresh,
        seed=recipe.seed,
        data=fingerprint(records_fingerprint(rows), json.dumps(recipe.model_dump(mode="json"))),
        log=log,
        checkpoints=Checkpoints(run.folder / "checkpoints", say),
        rewind=run.rewind if group.is_main_process else lambda _: None,
        watch=Watch(task.dev_label, lambda: task.dev_score(model, built, dev)) if dev else None,
    )
    outcome = fit(model, course)
    if outcome.reason:
        say(outcome.reason)
    if group.is_main_process:
        _save(run, task, model, built)
        course.checkpoints.clear()
        run.finish(trainable=trainable, parameters=parameters, notes=encoded.notes, **_facts(outcome))
    group.wait_for_everyone()
    return run


def _save(run: Run, task: Any, model: Any, built: Built) -> None:
    """Write the model folder, whole or not at all."""
    with new_folder(run.folder / "model") as beside:
        task.save(model, built, beside)


def _silent(_: str) -> None:
    """Say nothing: the leading process says it."""


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "steps": outcome.steps,
        "best": outcome.best,
        "best_step": outcome.best_step,
        "stopped_early": outcome.reason,
    }
