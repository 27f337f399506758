"""Meta: many tasks in, a start for unseen ones out, saved as an ordinary adapter."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import Interrupted
from burnish.evaluation.task import differences, evaluate
from burnish.models.adapted import begin_from
from burnish.recipe import to_yaml
from burnish.records import records_fingerprint
from burnish.retrievers import Progress
from burnish.run import Run, locked, new_folder, read_json, write_json
from burnish.sequences import Joined
from burnish.steps.meta_recipe import Meta, Source
from burnish.steps.train import Say
from burnish.tables import read_rows
from burnish.tasks import Built, Task
from burnish.text import fingerprint
from burnish.train.batches import step_count
from burnish.train.check import require_trainable
from burnish.train.checkpoint import Checkpoints, State
from burnish.train.loop import Course, fit
from burnish.train.mixing import Sets
from burnish.train.outer import Noted, first_order, reptile
from burnish.train.signals import watched_signals

NO_CLIP = 1e9  # of the gradient that an outer step is made of


@dataclass(frozen=True)
class Many:
    """What the rounds share. items: of each task that is trained on."""

    recipe: Meta
    run: Run
    task: Task
    built: Built
    model: nn.Module
    items: Mapping[str, Sequence[Any]]
    data: str
    say: Say
    progress: Progress


def meta(recipe: Meta, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Learn a start in a run folder, or go on with one that was stopped; return what `meta.json` holds.

    The start stands in `model`, for `start:` of a recipe. Held-out tasks with a test table are ranked by the model as
    it is and with the start, which has seen none of their rows.

    Raises:
        RunError: another recipe's run stands there.
    """
    with locked(folder):
        many = _begun(recipe, folder, say, progress)
        if not (folder / "model").is_dir():
            started = time.perf_counter()
            (_together if recipe.how == "multitask" else _rounds)(many)
            with new_folder(folder / "model") as beside:
                many.task.save(many.model, many.built, beside)
            many.run.finish(seconds=time.perf_counter() - started)
        if not (folder / "meta.json").is_file():
            tried = {name: _tried(many, recipe.tasks[name]) for name in recipe.held_out if recipe.tasks[name].test}
            sizes = {name: len(items) for name, items in many.items.items()}
            write_json(folder / "meta.json", {"rows": sizes, "held_out": tried, "how": recipe.how})
        found: dict[str, Any] = read_json(folder / "meta.json")
        return found


def _begun(recipe: Meta, folder: Path, say: Say, progress: Progress) -> Many:
    """Read the rows, build the model, and open the run."""
    rows = {name: _rows(recipe.tasks[name], recipe.tasks[name].train) for name in recipe.trained}
    text = to_yaml(recipe)
    if not (folder / "manifest.json").is_file() or (folder / "recipe.yaml").read_text(encoding="utf-8") != text:
        Run.create(folder, recipe=text, manifest={"seed": recipe.seed})
    progress("loading the model", 0, 1)
    torch.manual_seed(recipe.seed)
    task = recipe.tasks[recipe.trained[0]].task
    built = task.build(recipe.model, seed=recipe.seed)
    model = recipe.method.apply(built.model, fresh=built.fresh)
    require_trainable(model, recipe.method)
    items: dict[str, Sequence[Any]] = {}
    for name, own in rows.items():
        items[name] = recipe.tasks[name].task.settled(own).encode(own, built).items
        say(f"{name}: {len(items[name])} rows")
    data = fingerprint(*map(records_fingerprint, rows.values()), json.dumps(recipe.model_dump(mode="json")))
    return Many(recipe, Run.open(folder), task, built, model, items, data, say, progress)


def _rows(source: Source, place: str) -> Sequence[Any]:
    return read_rows(place, source.task.record)


def _course(many: Many, items: Sequence[Any], name: str, seed: int, steps: int) -> Course:
    """Return a training on these rows; its checkpoints, of a signal alone, stand apart from the rounds'."""
    training = many.recipe.training
    epochs = steps / step_count(len(items), batch=training.batch, epochs=1)
    return Course(
        task=many.task,
        items=items,
        training=training.model_copy(update={"epochs": epochs, "checkpoint_every": 0}),
        method=many.recipe.method,
        fresh=(),
        seed=seed,
        data=fingerprint(many.data, name),
        log=lambda *_: None,
        checkpoints=Checkpoints(many.run.folder / "inner" / name, many.say),
        rewind=lambda _: None,
        sampler=many.task.sampler(many.model, many.built, items, seed=seed),
        say=many.say,
    )


def _together(many: Many) -> None:
    """Train on all tasks, each with as many steps as any other."""
    recipe = many.recipe
    items = Joined([*many.items.values()])
    steps = recipe.rounds * (recipe.inner_steps + (recipe.how == "fomaml"))
    course = _course(many, items, "all", recipe.seed, steps)
    sets = Sets(tuple(map(len, many.items.values())), (1.0,) * len(many.items))
    epochs = steps / sum(step_count(n, batch=recipe.training.batch, epochs=1) for n in sets.sizes)

    def log(name: str, line: Mapping[str, object]) -> None:
        many.run.append(name, line)
        if name == "log.jsonl":
            many.progress("learning from all tasks", int(str(line["step"])), int(str(line["of"])))

    training = course.training.model_copy(
        update={"epochs": epochs, "checkpoint_every": recipe.checkpoint_every * recipe.inner_steps}
    )
    fit(many.model, replace(course, training=training, sets=sets, log=log, rewind=many.run.rewind))


def _rounds(many: Many) -> None:
    """Make the rounds, each on one task, from the newest checkpoint on.

    Raises:
        Interrupted: a signal came; what was learned is kept.
    """
    recipe, weights = many.recipe, [weight for weight in many.model.parameters() if weight.requires_grad]
    rate = recipe.outer_rate * (recipe.training.learning_rate or recipe.method.learning_rate)
    outer: torch.optim.Optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    if recipe.how == "reptile":
        outer = torch.optim.SGD(weights, lr=0.0)  # holds nothing: the step is a mean
    kept = Checkpoints(many.run.folder / "checkpoints", many.say)
    found = kept.load(weights, outer, data=many.data)
    first = 0
    if found:
        first = found[0].step
        with torch.no_grad():
            for weight, value in zip(weights, found[1], strict=True):
                weight.copy_(value)
    many.run.rewind(first)
    with watched_signals() as request:
        for number in range(first, recipe.rounds):
            start = [weight.detach().clone() for weight in weights]
            try:
                _round(many, number, start, weights, outer)
            except Interrupted:  # the training on one task has kept where it stands
                kept.save(State(step=number, data=many.data), start, outer)
                raise
            done = number + 1
            if request.exit_code or (done % recipe.checkpoint_every == 0 and done < recipe.rounds):
                kept.save(State(step=done, data=many.data), weights, outer)
            if request.exit_code:
                told = f"stopped by a signal after round {done} of {recipe.rounds}; the same command goes on"
                raise Interrupted(told, request.exit_code)
    kept.clear()


def _round(
    many: Many,
    number: int,
    start: Sequence[Tensor],
    weights: Sequence[nn.Parameter],
    outer: torch.optim.Optimizer,
) -> None:
    """Train on one task, move the start, and log what the task's loss was before and after."""
    recipe, began = many.recipe, time.perf_counter()
    names = [*many.items]
    cycle, place = divmod(number, len(names))
    name = random.Random(f"{recipe.seed} {cycle}").sample(names, len(names))[place]  # each task once in so many rounds
    items = many.items[name]
    losses: list[float] = []

    def log(file: str, line: Mapping[str, object]) -> None:
        if file == "log.jsonl":
            losses.append(float(str(line["loss"])))

    learned, further = items, items
    if recipe.how == "fomaml" and len(items) > 1:
        order = random.Random(f"{recipe.seed} {number}").sample(range(len(items)), len(items))
        cut = max(1, len(items) // 4)
        learned, further = ([items[place] for place in part] for part in (order[cut:], order[:cut]))
    course = _course(many, learned, f"{number:06d}", recipe.seed + number, recipe.inner_steps)
    fit(many.model, replace(course, log=log))
    course.checkpoints.clear()
    if recipe.how == "fomaml":
        first_order(start, weights, _gradient(many, further, number), outer)
    else:
        reptile(start, weights, recipe.outer_rate * (1 - number / recipe.rounds))
    moved = sum((weight.detach() - before).square().sum().item() for weight, before in zip(weights, start, strict=True))
    line = {"step": number + 1, "of": recipe.rounds, "task": name, "loss": losses[0], "after": losses[-1]}
    many.run.append("log.jsonl", line | {"moved": moved**0.5})
    many.run.append("clock.jsonl", {"step": number + 1, "seconds": time.perf_counter() - began})
    many.progress(f"learning a start ({name})", number + 1, recipe.rounds)


def _gradient(many: Many, items: Sequence[Any], number: int) -> list[Tensor]:
    """Return the gradient of a step on these rows where the weights are now, which stay there."""
    noted: list[Noted] = []

    def build(_: Sequence[str], weights: Sequence[nn.Parameter], *_rest: Any, **_more: Any) -> Noted:
        noted.append(Noted(weights))
        return noted[0]

    course = _course(many, items, f"{number:06d}-further", many.recipe.seed + number, 1)
    course.checkpoints.clear()  # of a stop behind this very step, whose gradient went with the process
    fit(many.model, replace(course, build=build, training=course.training.model_copy(update={"clip": NO_CLIP})))
    return noted[0].found


def _tried(many: Many, source: Source) -> dict[str, Any]:
    """Return how a held-out task's test rows are ranked by the model as it is, and with the start."""
    rows = _rows(source, source.test or "")
    task = source.task.settled(_rows(source, source.train))
    ask = partial(evaluate, task, rows=rows, seed=many.recipe.seed, progress=many.progress)
    plain, started = (task.build(many.recipe.model) for _ in range(2))
    before = ask(plain.model, plain)
    model = many.recipe.method.apply(started.model)
    begin_from(model, many.run.folder / "model")
    after = ask(model, started)
    return {
        "rows": len(rows),
        "before": before.scores,
        "after": after.scores,
        "gain": differences(task, after, before, rows, seed=many.recipe.seed),
    }
