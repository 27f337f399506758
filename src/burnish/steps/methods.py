"""Methods: the same task and rows, trained by one method after another, with what each reaches and costs."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.errors import DataError, ModelError
from burnish.evaluation.corpus import metric_interval
from burnish.evaluation.trade import write_picture
from burnish.methods import Method
from burnish.models.precision import device_words
from burnish.recipe import Recipe, read_recipe, to_yaml
from burnish.retrievers import Progress
from burnish.run import Run, locked, read_json, versions, write_json, write_text
from burnish.steps.apart import train_apart
from burnish.steps.evaluate import of_model
from burnish.steps.train import Say

MEBI = 2**20


def methods(
    recipe: Recipe, folder: Path, *, names: Sequence[str], seeds: int, say: Say, progress: Progress
) -> dict[str, Any]:
    """Train the recipe by each method and seed, each in a process of its own; return what `methods.json` holds.

    A method other than the recipe's comes with its shipped settings, its own learning rate among them. What is
    finished in the folder is read back. A method that does not fit is told with its reason.

    Raises:
        DataError: the recipe names no test rows.
    """
    if recipe.data.test is None:
        raise DataError("methods are compared on rows that none of them has seen: the recipe needs data.test")
    rows: list[dict[str, Any]] = []
    with locked(folder):
        rows += _untrained(recipe, progress)
        for name in names:
            say(f"▸ {name}")
            try:
                runs = [_run(_recipe(recipe, name, seed), folder, seed, progress) for seed in range(seeds)]
            except ModelError as error:
                rows.append({"method": name, "refused": str(error)})
                continue
            rows.append(_row(name, recipe, runs))
        found: dict[str, Any] = {"task": recipe.task.kind, "model": recipe.model, "rows": rows, "seeds": seeds}
        found |= {"device": device_words(), "versions": versions()}
        write_json(folder / "methods.json", found)
        write_picture(folder / "methods.svg", rows)
    return found


def _untrained(recipe: Recipe, progress: Progress) -> list[dict[str, Any]]:
    """Return the row of the base as it is, where the task gives it no new head."""
    task = recipe.task.settled(recipe.data.rows("train", recipe.task.record))
    if task.build(recipe.model, seed=recipe.seed).fresh:
        return []
    found = of_model(task, recipe.model, recipe.data.rows("test", task.record), seed=recipe.seed, progress=progress)
    label = task.metrics[0].label
    score = found.scores[label]
    costs = {"trainable": 0, "seconds": 0.0, "peak_mb": 0.0, "adapter_mb": 0.0}
    return [
        {"method": "none", "metric": label, **score, "seeds": [score["value"]], "scores": dict(found.scores), **costs}
    ]


def _recipe(recipe: Recipe, name: str, seed: int) -> Recipe:
    """Return the recipe with a method and its own rate; the recipe's own method stays as the recipe has it."""
    if name == recipe.method.kind:
        return recipe.model_copy(update={"seed": recipe.seed + seed})
    training = recipe.training.model_copy(update={"learning_rate": None, "warmup": None})
    return recipe.model_copy(update={"method": Method.read(name), "training": training, "seed": recipe.seed + seed})


def _run(recipe: Recipe, folder: Path, seed: int, progress: Progress) -> Run:
    """Train one method with one seed, or read back what was trained by the same recipe."""
    place = folder / f"{recipe.method.kind}-{seed}"
    wanted = to_yaml(recipe)
    asked = place.with_suffix(".yaml")
    if (place / "cost.json").is_file() and asked.is_file() and asked.read_text(encoding="utf-8") == wanted:
        return Run.open(place)
    write_text(asked, wanted)
    shutil.rmtree(place, ignore_errors=True)  # of a run that was stopped, or refused
    peak = train_apart(recipe, place, say=lambda _: None, progress=progress, before=False)
    write_json(place / "cost.json", {"peak_mb": peak})
    return Run.open(place)


def _row(name: str, recipe: Recipe, runs: Sequence[Run]) -> dict[str, Any]:
    """Return a method's row: the main metric over all seeds, its interval over the test rows, and the costs."""
    done = [read_recipe(run.folder / "recipe.yaml", Recipe) for run in runs]
    task, metric = done[0].task, done[0].task.metrics[0]
    rows = done[0].data.rows("test", task.record)
    said = [prediction for run in runs for prediction in _predictions(run, metric.reads)]
    clusters = [row.group or row.id for row in rows] * len(runs)
    interval = metric_interval(metric, said, task.references(rows) * len(runs), groups=clusters, seed=recipe.seed)
    each = [read_json(run.folder / "evaluation" / "test.json")["scores"] for run in runs]
    clocks = [sum(line["seconds"] for line in run.lines("clock.jsonl")) for run in runs]
    weights = sum(path.stat().st_size for path in (runs[0].folder / "model").rglob("*.safetensors"))
    return {
        "method": name,
        "metric": metric.label,
        **asdict(interval),
        "seeds": [scores[metric.label]["value"] for scores in each],
        "scores": each[0],
        "trainable": runs[0].manifest["trainable"],
        "seconds": sum(clocks) / len(runs),
        "peak_mb": max(read_json(run.folder / "cost.json")["peak_mb"] for run in runs),
        "adapter_mb": weights / MEBI,
        **_forgotten(runs[0]),
    }


def _predictions(run: Run, reads: str) -> list[Any]:
    """Return what a run said of each test row."""
    path = run.folder / "evaluation" / "test.predictions.jsonl"
    lines: list[Mapping[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line[reads] for line in lines]


def _forgotten(run: Run) -> dict[str, Any]:
    """Return what the run lost on general text, where the recipe has it watched."""
    path = run.folder / "evaluation" / "general.json"
    return {"general": read_json(path)} if path.is_file() else {}
