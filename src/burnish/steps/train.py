"""Train: a recipe in, a run folder with a model out."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from burnish.cache import cache_folder
from burnish.errors import ModelError, RunError
from burnish.losses.contrastive import is_scale_alone
from burnish.models.start import rounded
from burnish.recipe import SIDES, Recipe, read_recipe, to_yaml
from burnish.records import Record, records_fingerprint
from burnish.retrievers import Progress
from burnish.run import Run, locked, new_folder, write_json
from burnish.sequences import Joined
from burnish.steps.evaluate import of_model, write_evaluation
from burnish.steps.general import general, require_general
from burnish.steps.items import adapted, training_items
from burnish.tasks import Built
from burnish.text import fingerprint
from burnish.train.check import require_trainable
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, Log, Outcome, Watch, fit
from burnish.train.processes import agreed_dtype, processes

Say = Callable[[str], None]
Heard = Callable[[int, float], None]  # a step and the dev score after it, higher is better


class Pruned(Exception):  # noqa: N818 (it is no fault)
    """Raised by who hears the dev scores: this run is not worth going on with, and the message says why."""


class Rows(NamedTuple):
    """The rows of a run's three sides, what is rehearsed beside them, and the general texts."""

    train: Sequence[Record]
    dev: Sequence[Record]
    test: Sequence[Record]
    rehearsed: Sequence[Record]
    general: Sequence[Record]
    sizes: tuple[int, ...] = ()  # of the training rows' sets, where there are several

    @property
    def learned(self) -> Sequence[Record]:
        """The rows that are trained on, those that are rehearsed behind the others."""
        return Joined([self.train, self.rehearsed])

    @property
    def lists(self) -> list[Sequence[Record]]:
        """The rows, list by list."""
        return [self.train, self.dev, self.test, self.rehearsed, self.general]


def train(
    recipe: Recipe,
    folder: Path,
    *,
    say: Say,
    progress: Progress,
    heard: Heard | None = None,
    before: bool = True,
) -> Run:
    """Train the recipe's model in a new run folder, and score it on the test rows if there are any.

    before: score the base on them too, where the task gives it no new head.
    heard: called after each dev evaluation. Where it raises `Pruned`, the run ends there: its manifest says `pruned`
    and why, its logs stay, its checkpoints go, and the error is passed on.
    """
    rows = read_sides(recipe)
    recipe = recipe.model_copy(update={"task": recipe.task.settled(rows.learned)})
    group = processes()
    with locked(folder) if group.is_main_process else nullcontext():
        if group.is_main_process:
            Run.create(folder, recipe=to_yaml(recipe), manifest={"seed": recipe.seed, "rows": len(rows.train)})
        group.wait_for_everyone()
        return _train(recipe, Run.open(folder), rows, say=say, progress=progress, heard=heard, before=before)


def resume(folder: Path, *, say: Say, progress: Progress, heard: Heard | None = None) -> Run:
    """Go on with a run that was stopped, from its newest good checkpoint; heard: as in `train`.

    Raises:
        RunError: the run is finished.
    """
    run = Run.open(folder)
    if run.manifest["status"] == "finished":
        raise RunError(f"{folder}: this run is finished; its model is in {folder / 'model'}")
    recipe = read_recipe(folder / "recipe.yaml", Recipe)
    with locked(folder) if processes().is_main_process else nullcontext():
        return _train(recipe, run, read_sides(recipe), say=say, progress=progress, heard=heard)


def trained(recipe: Recipe, folder: Path, *, say: Say, progress: Progress, heard: Heard | None = None) -> Run:
    """Return the run in this folder: as it stands where it came to an end, resumed where it was stopped, else new."""
    if not (folder / "manifest.json").is_file():
        return train(recipe, folder, say=say, progress=progress, heard=heard)
    run = Run.open(folder)
    return run if run.manifest["status"] != "started" else resume(folder, say=say, progress=progress, heard=heard)


def read_sides(recipe: Recipe) -> Rows:
    """Read the rows before anything is created, so that a faulty file leaves no trace."""
    record = recipe.task.record
    sets = recipe.data.sets(record)
    train: Sequence[Record] = Joined(sets) if len(sets) > 1 else sets[0]
    dev, test = (recipe.data.rows(side, record) for side in SIDES[1:])
    sizes = tuple(map(len, sets)) if len(sets) > 1 else ()
    return Rows(train, dev, test, recipe.data.rehearsed(record), recipe.data.general_rows(record), sizes)


def _train(
    recipe: Recipe,
    run: Run,
    rows: Rows,
    *,
    say: Say,
    progress: Progress,
    heard: Heard | None,
    before: bool = True,
) -> Run:
    """Build, adapt, audit, fit, save, score."""
    task, training = recipe.task, recipe.training
    method = task.adapted_by(recipe.method)
    group = processes()
    say = say if group.is_main_process else _silent
    progress("loading the model", 0, 1)
    torch.manual_seed(recipe.seed)  # what a method adds to the model is drawn from it
    built = task.build(recipe.model, seed=recipe.seed)
    model = adapted(recipe, built)
    trainable, parameters = require_trainable(model, method)
    items = training_items(recipe, rows.train, rows.rehearsed, built, say=say, sizes=rows.sizes)
    if rows.general:
        require_general(task, built, rows.general)
    comparable = is_scale_alone(built.fresh)
    _prepare(recipe, model, built, items.items, rows.dev, say=say, progress=progress)
    for reason, count in task.encode(rows.dev, built).notes.items() if rows.dev else ():
        say(f"dev rows, {reason}: {count}")
    if group.num_processes > 1 and not task.divisible:
        say(f"{group.num_processes} processes: a row's in-batch negatives are those of its own process")
    course = Course(
        task=task,
        items=items.items,
        training=training,
        method=method,
        fresh=built.fresh,
        seed=recipe.seed,
        data=fingerprint(records_fingerprint(rows.learned), json.dumps(recipe.model_dump(mode="json"))),
        log=_log(run, f"training ({task.kind})", progress, heard),
        checkpoints=Checkpoints(run.folder / "checkpoints", say),
        rewind=run.rewind if group.is_main_process else lambda _: None,
        watch=Watch(task.dev_label, lambda: task.dev_score(model, built, rows.dev)) if rows.dev else None,
        rehearsed=items.rehearsed,
        share=items.share,
        sets=items.sets,
        sampler=task.sampler(model, built, items.items, seed=recipe.seed),
        say=say,
    )
    outcome = _fitted(model, course, run)
    if outcome.reason:
        say(outcome.reason)
    if group.is_main_process:
        _save(run, task, model, built)
        if rows.test:
            _score(recipe, run, rows.test, before=before and comparable, progress=progress)
        if rows.general:
            say(general(recipe, run, rows.general, before=comparable, progress=progress))
        course.checkpoints.clear()
        run.finish(trainable=trainable, parameters=parameters, notes=items.notes, **_facts(outcome))
    group.wait_for_everyone()
    return run


def _prepare(
    recipe: Recipe,
    model: nn.Module,
    built: Built,
    items: Sequence[Any],
    dev: Sequence[Record],
    *,
    say: Say,
    progress: Progress,
) -> None:
    """Make what loss and dev score need beside the model; what one process of a machine makes, the others find."""
    group, task = processes(), recipe.task
    model.to(group.device)
    dtype = agreed_dtype(recipe.training) if task.prepares_as_it_trains else torch.float32
    with group.local_main_process_first(), rounded(model, dtype):
        for line in task.prepare(model, items, cache=cache_folder(), progress=progress):
            say(line)
        if dev:
            task.prepare_dev(model, built, dev, cache=cache_folder(), progress=progress)


def _log(run: Run, what: str, progress: Progress, heard: Heard | None) -> Log:
    """Return what writes the loop's lines into the run, shows its steps and passes on its dev scores."""

    def log(name: str, line: Mapping[str, object]) -> None:
        run.append(name, line)
        if name == "log.jsonl":
            stands = f" · reward {float(str(line['reward'])):.3f}" if "reward" in line else ""
            progress(f"{what}{stands}", int(str(line["step"])), int(str(line["of"])))
        if name == "dev.jsonl" and heard:
            heard(int(str(line["step"])), float(str(line["value"])))

    return log


def _fitted(model: Any, course: Course, run: Run) -> Outcome:
    """Fit the model; a run that is pruned says so in its manifest.

    Raises:
        Pruned: who hears the dev scores raised it.
        ModelError: a part of the model that was to move had no gradient in any step.
    """
    trained = {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}
    try:
        outcome = fit(model, course)
    except Pruned as reason:
        course.checkpoints.clear()
        write_json(run.folder / "manifest.json", {**run.manifest, "status": "pruned", "stopped_early": str(reason)})
        raise
    for part in trained.intersection(course.task.parts if processes().is_main_process else ()):
        if not any(line.get(f"grad_norm {part}") for line in run.lines("log.jsonl")):
            raise ModelError(
                f"the {part} was to be trained, and no step of {outcome.steps} had a gradient for it: nothing told "
                "its choices apart. Look at `entropy` and the loss in log.jsonl"
            )
    return outcome


def _save(run: Run, task: Any, model: Any, built: Built) -> None:
    """Write the model folder, whole or not at all."""
    with new_folder(run.folder / "model") as beside:
        task.save(model, built, beside)


def _silent(_: str) -> None:
    """Say nothing: the leading process says it."""


def _score(recipe: Recipe, run: Run, rows: Sequence[Record], *, before: bool, progress: Progress) -> None:
    """Score the saved model on the test rows, and the base too where `before` and after are asked for."""
    base = of_model(recipe.task, recipe.model, rows, seed=recipe.seed, progress=progress) if before else None
    after = of_model(recipe.task, str(run.folder / "model"), rows, seed=recipe.seed, progress=progress)
    extra = {"data": recipe.data.test, "against": recipe.model if before else None}
    write_evaluation(run, "test", recipe.task, rows, after, base, seed=recipe.seed, extra=extra)


def _facts(outcome: Outcome) -> dict[str, object]:
    return {
        "steps": outcome.steps,
        "best": outcome.best,
        "best_step": outcome.best_step,
        "stopped_early": outcome.reason,
    }
