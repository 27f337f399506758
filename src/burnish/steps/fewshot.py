"""Fewshot: a few rows drawn several times, and what each way to learn from them reaches on rows held out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from burnish.choice_rows import Choice
from burnish.errors import RunError
from burnish.evaluation.compare import compare
from burnish.evaluation.score import Scores, interval
from burnish.methods import Method
from burnish.models.adapted import begin_from
from burnish.models.precision import device_words
from burnish.prepare.draw import drawn
from burnish.prepare.synthesize import sample
from burnish.recipe import Files, Recipe, to_yaml
from burnish.records import Message, dump_jsonl
from burnish.retrievers import Progress
from burnish.run import locked, read_json, versions, write_json, write_text
from burnish.steps.evaluate import ready
from burnish.steps.fewshot_recipe import FewShots
from burnish.steps.train import Say, trained
from burnish.tables import read_rows
from burnish.tasks import Built, Task
from burnish.tasks.classify import Classify
from burnish.tasks.fewshot import Fewshot, FewshotItem
from burnish.train.batches import step_count
from burnish.train.settings import Training

KILO, BYTES = 1000, 4  # of a weight in fp32
ZERO, SHOWN, HEAD, NONE, NEAREST = "zero-shot", "in context", "head", "none", "nearest"


@dataclass(frozen=True)
class System:
    """A way to learn: `method` and `start` name it. shots: rows that it learns from; 0 for none."""

    method: str
    start: str
    shots: int


@dataclass(frozen=True)
class Pool:
    """What all systems share. task: with its labels; rows: that are drawn from; test: that are scored."""

    recipe: FewShots
    folder: Path
    task: Fewshot
    rows: Sequence[Any]
    test: Sequence[Any]
    progress: Progress


def fewshot(recipe: FewShots, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Compare ways to learn from a few rows, in a folder; what is finished there is read back.

    Returns what `fewshot.json` holds, a row for each system and number of rows. value, low, high: the accuracy, a
    question's mean over draws and templates, with its interval over questions; median, worst, best: over draws and
    templates; seconds: of a training, the median over draws; gain: over the method without a start from the same
    draws, and over examples in the prompt.

    Raises:
        RunError: another recipe's comparison stands there.
    """
    with locked(folder):
        text, path = to_yaml(recipe), folder / "recipe.yaml"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise RunError(f"{folder}: another comparison stands here; name another folder with --run")
        write_text(path, text)
        rows = read_rows(recipe.train, recipe.task.record)
        task = recipe.task.settled(rows)
        assert isinstance(task, Fewshot)
        test = sample(read_rows(recipe.test, recipe.task.record), recipe.test_rows, seed=recipe.seed)
        pool = Pool(recipe, folder, task, rows, test, progress)
        found: dict[System, dict[str, Any]] = {}
        for system in _systems(pool):
            say(f"▸ {system.method}, start: {system.start}, {system.shots} rows")
            found[system] = _measured(pool, system)
        told = {"rows": [_row(pool, system, found) for system in found], "test": len(test), "seed": recipe.seed}
        told |= {"model": recipe.model, "device": device_words(), "versions": versions()}
        write_json(folder / "fewshot.json", told)
        return told


def _systems(pool: Pool) -> Iterator[System]:
    recipe = pool.recipe
    yield System(ZERO, NONE, 0)
    for shots in recipe.shots:
        if recipe.in_context:
            yield System(SHOWN, NONE, shots)
        if recipe.head and pool.task.templates:
            yield System(HEAD, NONE, shots)
        nearest = [NEAREST] if len(recipe.starts) > 1 else []
        for start in (NONE, *recipe.starts, *nearest):
            yield System(recipe.method.kind, start, shots)


def _measured(pool: Pool, system: System) -> dict[str, Any]:
    """Return a system's answers, right or wrong, by draw and template, and its costs; each draw is kept."""
    seeds = range(1 if system.method == ZERO else pool.recipe.seeds)
    each = []
    for seed in seeds:
        path = _place(pool, system, seed)
        if not path.is_file():
            rows = drawn(pool.rows, system.shots, seed=pool.recipe.seed + seed) if system.shots else []
            if system.start == NEAREST:
                chosen = _nearest(pool, rows)
                write_json(path, {**read_json(_place(pool, replace(system, start=chosen), seed)), "chosen": chosen})
            else:
                write_json(path, _draw(pool, system, rows, pool.folder / "runs" / path.stem, pool.recipe.seed + seed))
        each.append(read_json(path))
    return {
        "right": [right for one in each for right in one["right"]],
        "seconds": median(one["seconds"] for one in each),  # other work on the machine holds some for long
        "kilobytes": max(one["kilobytes"] for one in each),
    }


def _place(pool: Pool, system: System, seed: int) -> Path:
    """Return the file of what a system makes of one draw."""
    name = f"{system.method}-{system.start}-{system.shots}-{seed}".replace(" ", "-")
    return pool.folder / "draws" / f"{name}.json"


def _nearest(pool: Pool, rows: Sequence[Any]) -> str:
    """Return the start by which the loss of these rows is lowest before a step is made, over all templates.

    SPoT (Vu et al. 2022, arXiv 2110.07904) chooses by what a task's own training makes of the method's weights; the
    loss needs no training, and holds for any method.
    """
    task, losses = pool.task, {}
    built = task.build(pool.recipe.model)
    items = task.encode(rows, built).items
    model = pool.recipe.method.apply(built.model).eval()
    for name, folder in pool.recipe.starts.items():
        begin_from(model, Path(folder))
        with torch.no_grad():
            losses[name] = sum(
                task.total_loss(model, task.collate([_by_template(item, number)])).item()
                for item in items
                for number in range(len(item.prompts))
            )
    return min(losses, key=lambda name: losses[name])


def _by_template(item: FewshotItem, number: int) -> FewshotItem:
    return replace(item, prompts=item.prompts[number : number + 1], choices=item.choices[number : number + 1])


def _draw(pool: Pool, system: System, rows: Sequence[Any], place: Path, seed: int) -> dict[str, Any]:
    """Return what a system makes of these rows: for each template, which questions it answers right."""
    if system.method in (ZERO, SHOWN):
        built = ready(pool.task, pool.recipe.model)
        right = [_in_context(pool, built, rows, number) for number in range(len(pool.task.templates) or 1)]
        return {"right": right, "seconds": 0.0, "kilobytes": 0.0}
    write_text(place.with_suffix(".jsonl"), dump_jsonl(rows))
    recipe = pool.recipe
    epochs = recipe.steps / step_count(len(rows), batch=recipe.batch, epochs=1)
    task: Task = pool.task
    if system.method == HEAD:
        task = Classify(labels=pool.task.labels)
    asked = Recipe(
        task=task,
        model=recipe.model,
        method=Method.read("head") if system.method == HEAD else recipe.method,
        start=recipe.starts.get(system.start),
        data=Files(train=str(place.with_suffix(".jsonl"))),
        training=Training(epochs=epochs, batch=recipe.batch, evaluations=0, checkpoint_every=0, dropout=0.0),
        seed=seed,
    )
    run = trained(asked, place, say=lambda _: None, progress=pool.progress)
    built = ready(task, str(run.folder / "model"))
    right = [_answers(pool, task, built, number) for number in range(len(pool.task.templates) or 1)]
    if system.method == HEAD:
        right = right[:1]  # which reads no template
    seconds = sum(line["seconds"] for line in run.lines("clock.jsonl"))
    return {"right": right, "seconds": seconds, "kilobytes": BYTES * run.manifest["trainable"] / KILO}


def _answers(pool: Pool, task: Task, built: Built, number: int) -> list[float]:
    """Return 1 or 0 for each test row, by one of the templates."""
    task = _led_by(task, number) if isinstance(task, Fewshot) else task
    said = task.predictions(built.model, built, pool.test, reads="answers", progress=pool.progress)
    return [float(one == other) for one, other in zip(said, task.references(pool.test), strict=True)]


def _in_context(pool: Pool, built: Built, rows: Sequence[Any], number: int) -> list[float]:
    """Return 1 or 0 for each test row, ranked by the model as it is behind the rows as earlier turns."""
    task = _led_by(pool.task, number)
    asked = [_choice(task, row) for row in pool.test]
    earlier = [turn for row in rows for turn in _turns(_choice(task, row))]
    behind = [row.model_copy(update={"prompt": (*earlier, *_messages(row))}) for row in asked] if earlier else asked
    plain = Fewshot(max_tokens=task.max_tokens + sum(len(turn.content) for turn in earlier))
    said = plain.predictions(built.model, built, behind, reads="answers", progress=pool.progress)
    return [float(one == row.answer) for one, row in zip(said, asked, strict=True)]


def _led_by(task: Fewshot, number: int) -> Fewshot:
    """Return the task with one of its templates first, by which rows are scored."""
    others = [template for place, template in enumerate(task.templates) if place != number]
    return task.model_copy(update={"templates": (*task.templates[number : number + 1], *others)})


def _choice(task: Fewshot, row: Any) -> Choice:
    return task.templates[0].choice(row, task.labels) if task.templates else row


def _messages(row: Choice) -> tuple[Message, ...]:
    return (Message(role="user", content=row.prompt),) if isinstance(row.prompt, str) else row.prompt


def _turns(row: Choice) -> tuple[Message, ...]:
    return (*_messages(row), Message(role="assistant", content=row.answer))


def _row(pool: Pool, system: System, found: Mapping[System, Mapping[str, Any]]) -> dict[str, Any]:
    own = found[system]
    each = [fmean(right) for right in own["right"]]
    against = {
        "no start": System(system.method, NONE, system.shots) if system.start != NONE else None,
        SHOWN: System(SHOWN, NONE, system.shots) if system.method == pool.recipe.method.kind else None,
    }
    gains = {
        name: asdict(compare(_scores(pool, own), _scores(pool, found[other]), seed=pool.recipe.seed))
        for name, other in against.items()
        if other is not None and other in found
    }
    return {
        **asdict(system),
        **asdict(interval(_scores(pool, own), seed=pool.recipe.seed)),
        "median": median(each),
        "worst": min(each),
        "best": max(each),
        "draws": len(each),
        "seconds": own["seconds"],
        "kilobytes": own["kilobytes"],
        "gain": gains,
    }


def _scores(pool: Pool, own: Mapping[str, Any]) -> Scores:
    """Return each question's mean over draws and templates."""
    values = [fmean(each) for each in zip(*own["right"], strict=True)]
    ids = tuple(row.id for row in pool.test)
    return Scores("accuracy", ids, tuple(values), tuple(row.group for row in pool.test))
