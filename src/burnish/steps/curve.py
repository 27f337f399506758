"""Curve: the recipe trained on ever more of its rows, and the answer to whether more labels would help."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from burnish.errors import RecipeError
from burnish.evaluation.curve import Doubling, answer, doubling, resampled, statistics
from burnish.evaluation.plots import curve_file
from burnish.evaluation.task import Evaluated, differences
from burnish.prepare.balance import labels_of
from burnish.prepare.stratify import split_stratified
from burnish.recipe import Files, Recipe
from burnish.records import Labelled, Record, dump_jsonl
from burnish.retrievers import Progress
from burnish.run import locked, read_json, versions, write_json, write_text
from burnish.steps.claim import claim, each_once, for_training, require, steps_of
from burnish.steps.evaluate import of_model, write_evaluation
from burnish.steps.train import Rows, Say, read_sides, trained
from burnish.tasks import Task

_SHARES = (
    "two or more percents of the training rows are needed, each larger than the one before, above 0 and at most 100, "
    "such as 10,25,50,100"
)


def curve(recipe: Recipe, folder: Path, *, shares: Sequence[float], say: Say, progress: Progress) -> dict[str, Any]:
    """Train on nested shares of the training rows in `folder`, score each on the test rows; return `curve.json`.

    shares: in percent, rising. Every share holds the rows of those before it, whole groups, and of a classification
    each label's share. All train for as many steps as the recipe does on all rows, so that what a larger share gains
    is the labels' doing and not that of more steps. Each is one run in `shares/10` and so on; what was finished
    is not repeated. The model of the largest share is kept.

    Raises:
        RecipeError: the recipe has no test rows or several sets of training rows, or the shares do not rise from above
            0 to at most 100.
        DataError: rows are faulty, or too few for so many shares.
        RunError: the folder was begun with another recipe, other rows or other shares.
    """
    require("test", recipe.data.test, "a learning curve is scored on rows that are not trained on")
    if len(shares) < 2 or not all(0 < low < high <= 100 for low, high in pairwise(shares)):
        raise RecipeError(f"shares {', '.join(f'{share:g}' for share in shares)}: {_SHARES}")
    if not isinstance(recipe.data.train, str):
        raise RecipeError("data.train: a learning curve takes shares of one set of rows, and the recipe names several")
    rows = read_sides(recipe)
    with locked(folder):
        claim(folder, recipe, rows.lists, kind="curve", shares=[*shares])
        if (folder / "curve.json").is_file():
            done: dict[str, Any] = read_json(folder / "curve.json")
            return done
        task = recipe.task.settled(rows.learned)
        once = each_once(say)
        points, scored = [], []
        for share, part in zip(shares, nested(rows.train, shares, seed=recipe.seed), strict=True):
            say(f"▸ {share:g} % of the training rows: {len(part):,} of {len(rows.train):,}{_missing(task, part)}")
            whole = recipe.model_copy(update={"task": task})
            point, evaluated = _point(whole, folder, rows, share, part, say=once, progress=progress)
            points.append(point)
            scored.append(evaluated)
        found = _told(recipe.seed, task, rows, points, scored)
        write_text(folder / "curve.svg", _picture(found))
        write_json(folder / "curve.json", found)
        for point in points[:-1]:
            shutil.rmtree(folder / point["run"] / "model", ignore_errors=True)
        return found


def read_shares(text: str) -> list[float]:
    """Read shares as they are written on the command line: `10,25,50,100`, percent signs allowed.

    Raises:
        RecipeError: one of them is no number.
    """
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"shares {text!r}: {_SHARES}") from error


def nested(rows: Sequence[Record], shares: Sequence[float], *, seed: int) -> list[list[Record]]:
    """Return the rows of each share (percent, rising), each with those of the share before it; in their order.

    Groups stay whole; where rows have labels, each share has the labels about as often as all rows have them.

    Raises:
        DataError: there are fewer groups than shares.
    """
    places = {f"{share:g} %": place for place, share in reversed([*enumerate((*shares, 100.0))])}
    steps = {f"{share:g} %": share - before for before, share in pairwise((0.0, *shares, 100.0)) if share > before}
    labels = [labels_of(row) if isinstance(row, Labelled) else () for row in rows]
    sides = split_stratified([row.group or row.id for row in rows], labels, shares=steps, seed=seed)
    return [[row for row, side in zip(rows, sides, strict=True) if places[side] <= last] for last in range(len(shares))]


def _point(
    recipe: Recipe,
    folder: Path,
    rows: Rows,
    share: float,
    part: Sequence[Record],
    *,
    say: Say,
    progress: Progress,
) -> tuple[dict[str, Any], Evaluated]:
    """Train on a share's rows, and score the model on the test rows."""
    began, name = time.perf_counter(), f"{share:g}"
    place = Path("shares") / name

    def told(what: str, done: int, of: int) -> None:
        progress(f"{name} %: {what}", done, of)

    run = trained(_recipe(recipe, folder / "data", rows, name, part), folder / place, say=say, progress=told)
    evaluated = of_model(recipe.task, str(run.folder / "model"), rows.test, seed=recipe.seed, progress=told)
    extra = {"data": recipe.data.test, "against": None}
    write_evaluation(run, "test", recipe.task, rows.test, evaluated, None, seed=recipe.seed, extra=extra)
    point = {
        "share": share,
        "rows": len(part),
        "groups": len({row.group or row.id for row in part}),
        "steps": run.manifest["steps"],
        "scores": evaluated.scores,
        "seconds": time.perf_counter() - began,
        "run": str(place),
    }
    return point, evaluated


def _recipe(recipe: Recipe, data: Path, rows: Rows, name: str, part: Sequence[Record]) -> Recipe:
    """Write a share's rows to the folder `data`, and return the recipe that makes as many steps on them as on all."""
    files = {side: data / f"{side}.jsonl" for side in (f"train-{name}", "dev", "rehearsal")}
    for path, found in zip(files.values(), (part, rows.dev, rows.rehearsed), strict=True):
        if found and not path.is_file():
            write_text(path, dump_jsonl(found))
    train, dev, rehearsed = map(str, files.values())
    rehearsal = recipe.data.rehearsal and recipe.data.rehearsal.model_copy(update={"file": rehearsed})
    steps, whole = (steps_of(recipe, rows, train=count, epochs=1) for count in (len(part), len(rows.train)))
    placed = Files(train=train, dev=dev if rows.dev else None, rehearsal=rehearsal)
    return for_training(recipe.model_copy(update={"data": placed}), epochs=recipe.training.epochs * whole / steps)


def _told(
    seed: int, task: Task, rows: Rows, points: Sequence[dict[str, Any]], scored: Sequence[Evaluated]
) -> dict[str, Any]:
    """Return what `curve.json` holds."""
    metric, sizes = task.metrics[0], [point["rows"] for point in points]
    values = [point["scores"][metric.label]["value"] for point in points]
    gap = differences(task, scored[-1], scored[-2], rows.test, seed=seed)[metric.label]
    references = task.references(rows.test)
    draws = resampled(
        metric,
        [statistics(metric, evaluated, references) for evaluated in scored],
        groups=[row.group for row in rows.test],
        seed=seed,
    )
    more = doubling(metric, sizes, values, draws, gap)
    word, sentence = answer(metric, sizes, values, gap, more)
    return {
        "kind": "curve",
        "metric": metric.label,
        "higher_is_better": metric.higher_is_better,
        "test_rows": len(rows.test),
        "points": [*points],
        "difference": {"from": sizes[-2], "to": sizes[-1], **gap},
        "doubling": {"rows": 2 * sizes[-1], **({"why": more.why} if more.why else asdict(more))},
        "answer": word,
        "sentence": sentence,
        "seed": seed,
        "versions": versions(),
    }


def _picture(found: dict[str, Any]) -> str:
    """Draw the points, and where it is known the law through them up to twice the rows."""
    sizes = [point["rows"] for point in found["points"]]
    scores = [point["scores"][found["metric"]] for point in found["points"]]
    points = [(size, score["value"], score["low"], score["high"]) for size, score in zip(sizes, scores, strict=True)]
    more = {key: value for key, value in found["doubling"].items() if key != "rows"}
    law = None if more["why"] else Doubling(**more)
    last = law.at(1) if law else 0.0
    reach = np.geomspace(sizes[0], 2 * sizes[-1], 60)
    return curve_file(
        points,
        line=[(float(size), law.at(size / sizes[-1])) for size in reach] if law else (),
        doubled=(2 * sizes[-1], last + law.change, last + law.low, last + law.high) if law else None,
        title=f"{found['metric']} on {found['test_rows']:,} test rows",
    )


def _missing(task: Task, rows: Sequence[Record]) -> str:
    """Return what to say of labels that a share has no row of."""
    known = {label for row in rows if isinstance(row, Labelled) for label in labels_of(row)}
    missing = [label for label in getattr(task, "labels", ()) if label not in known]
    return f", none with the label {', '.join(map(repr, missing[:5]))}" if missing else ""
