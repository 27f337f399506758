"""Probe: three learning rates tried for a short while, the cheap form of a search."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import DataError, DivergedError, RunError
from burnish.evaluation.compare import gap_text
from burnish.evaluation.task import Evaluated, differences
from burnish.evaluation.verdict import LIKELY
from burnish.metrics import Metric
from burnish.recipe import Recipe, to_yaml
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.run import locked, read_json, versions, write_json, write_text
from burnish.steps.claim import claim, each_once, for_training, require, steps_of
from burnish.steps.evaluate import of_model
from burnish.steps.space import RATE, Settings, default_rate, with_settings
from burnish.steps.train import Rows, Say, read_sides, trained
from burnish.steps.tune import DIVERGED, FINISHED, REFUSED, end_run, run_folder
from burnish.tasks import Task

FACTORS = {
    1 / 3: "a third of the method's own rate",
    1.0: "the method's own rate",
    3.0: "three times the method's own rate",
}
SHARE = 0.3  # of the steps; the schedule ends with them
LEAST_STEPS = 8


@dataclass(frozen=True, slots=True)
class Probed:
    """One rate: how its run ended, and the dev rows as its model sees them."""

    number: int
    factor: float
    settings: Settings
    state: str
    note: str
    seconds: float
    evaluated: Evaluated | None


def probe(recipe: Recipe, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Try three rates for 30 % of the steps, at least 8, in `folder`; return what `tune.json` holds.

    Each is a run of its own in `trials/NNN` with a schedule that ends with its last step. Their models are compared on
    the dev rows, paired; the best one's is kept. What was finished is not repeated.

    Raises:
        RecipeError: the recipe has no dev rows.
        RunError: the folder was begun with another recipe or other rows, or no rate led to a model.
    """
    require("dev", recipe.data.dev, "a probe compares scores of rows that are not trained on")
    rows = read_sides(recipe)
    with locked(folder):
        claim(folder, recipe, rows.lists, kind="probe")
        if (folder / "tune.json").is_file():
            done: dict[str, Any] = read_json(folder / "tune.json")
            return done
        task = recipe.task.settled(rows.learned)
        task = task.model_copy(update={"metrics": task.metrics[:1]})
        short, steps, of = shortened(recipe, rows)
        once = each_once(say)
        tried = []
        for number, factor in enumerate(FACTORS, start=1):
            settings = {RATE: float(f"{default_rate(recipe.method) * factor:.3g}")}
            say(f"▸ rate {number} of {len(FACTORS)}: {settings[RATE]:g}, {steps} of {of} steps")
            trial = with_settings(short, settings)
            tried.append(_try(trial, task, rows, folder, number, factor, settings, say=once, progress=progress))
        return _told(recipe, task, rows, folder, tried, (steps, of))


def shortened(recipe: Recipe, rows: Rows) -> tuple[Recipe, int, int]:
    """Return the recipe for a probe, its steps, and the steps of the whole."""
    whole = steps_of(recipe, rows)
    steps = min(whole, max(LEAST_STEPS, math.ceil(SHARE * whole)))
    return for_training(recipe, epochs=steps / steps_of(recipe, rows, epochs=1), evaluations=0), steps, whole


def _try(
    recipe: Recipe,
    task: Task,
    rows: Rows,
    folder: Path,
    number: int,
    factor: float,
    settings: Settings,
    *,
    say: Say,
    progress: Progress,
) -> Probed:
    """Train with one rate, and have the model predict the dev rows."""
    place, began = run_folder(folder, number), time.perf_counter()
    evaluated, state, note = None, FINISHED, ""

    def told(what: str, done: int, of: int) -> None:
        progress(f"rate {number} of {len(FACTORS)}: {what}", done, of)

    try:
        run = trained(recipe, place, say=say, progress=told)
        state, note = run.manifest["status"], run.manifest.get("stopped_early", "")
        if state == FINISHED:
            evaluated = of_model(task, str(place / "model"), rows.dev, seed=recipe.seed, progress=told)
    except (DivergedError, DataError) as error:
        state, note = DIVERGED if isinstance(error, DivergedError) else REFUSED, str(error)
        if (place / "manifest.json").is_file():
            end_run(place, state, note)
    return Probed(number, factor, settings, state, note, time.perf_counter() - began, evaluated)


def _told(
    recipe: Recipe, task: Task, rows: Rows, folder: Path, tried: Sequence[Probed], steps: tuple[int, int]
) -> dict[str, Any]:
    """Write `tune.json` and `best.yaml`, remove the other models; return what the first holds.

    Raises:
        RunError: no rate led to a model that could be scored.
    """
    metric = task.metrics[0]
    scores = {t.number: t.evaluated.scores[metric.label] for t in tried if t.evaluated}
    if not scores:
        raise RunError(f"{folder}: no rate led to a model that can be scored: {tried[-1].note}")
    sign = 1 if metric.higher_is_better else -1
    order = sorted(
        (t for t in tried if t.evaluated), key=lambda t: (sign * scores[t.number]["value"], t.factor == 1), reverse=True
    )
    found = {
        "kind": "probe",
        "metric": metric.label,
        "higher_is_better": metric.higher_is_better,
        "dev_rows": len(rows.dev),
        "searched": {RATE: [t.settings[RATE] for t in tried]},
        "steps": list(steps),
        "trials": [
            {
                "trial": t.number,
                "settings": t.settings,
                "dev": scores[t.number]["value"] if t.evaluated else None,
                "interval": [scores[t.number]["low"], scores[t.number]["high"]] if t.evaluated else None,
                "state": t.state,
                "seconds": t.seconds,
                "note": t.note,
            }
            for t in tried
        ],
        "best": order[0].number,
        "sentence": _sentence(task, metric, order, rows.dev, steps, recipe.seed),
        "seed": recipe.seed,
        "versions": versions(),
    }
    write_text(folder / "best.yaml", to_yaml(with_settings(recipe, order[0].settings)))
    write_json(folder / "tune.json", found)
    for t in tried:
        if t is not order[0]:
            shutil.rmtree(run_folder(folder, t.number) / "model", ignore_errors=True)
    return found


def _sentence(
    task: Task, metric: Metric, order: Sequence[Probed], dev: Sequence[Record], steps: tuple[int, int], seed: int
) -> str:
    """Say which rate is best, how sure that is, and whether a better one may lie outside."""
    best = order[0]
    assert best.evaluated is not None
    value = best.evaluated.scores[metric.label]["value"]
    told = (
        f"{best.settings[RATE]:g}, {FACTORS[best.factor]}, is best after {steps[0]} of {steps[1]} steps: "
        f"dev {metric.label} {value:.3f}"
    )
    if len(order) == 1:
        sure = "; no other rate led to a model that can be scored"
    else:
        assert order[1].evaluated is not None
        gap = differences(task, best.evaluated, order[1].evaluated, dev, seed=seed)[metric.label]
        sure = (
            f", {gap_text(gap)} against {order[1].settings[RATE]:g}, p = {gap['p']:.4f} on {len(dev)} dev rows: "
        ) + ("more than chance explains" if gap["p"] < LIKELY else "not sure, chance alone explains as much")
    edge = ""
    if best.factor != 1:
        side = "higher" if best.factor > 1 else "lower"
        edge = f"; it is at the edge of what was tried, and a {side} one may be better still"
    return f"{told}{sure}{edge}."
