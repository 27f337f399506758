"""Calibrate: the threshold of a trained detector, chosen on dev rows and kept beside its model."""

from pathlib import Path
from typing import Any

from burnish.claims import Case, Grounded
from burnish.errors import DataError, RecipeError, RunError, near_miss
from burnish.evaluation.threshold import area_under_roc, calibrated
from burnish.grounding.cross_encoder import EVEN, judged_by
from burnish.models.detector import FILE, Calibrated, write_calibrated
from burnish.recipe import Recipe, read_recipe
from burnish.records import Labelled
from burnish.retrievers import Progress
from burnish.run import Run
from burnish.tasks.classify import Classify

MIXED = (0.0, 0.5)  # shares of the support by words that are tried


def calibrate(folder: Path, *, label: str, data: str | None, progress: Progress) -> dict[str, Any]:
    """Choose the threshold from which on a run's classifier takes an answer for borne by its passage.

    label: the label that says so. data: a table of rows with pairs, passage and answer; the recipe's dev rows where
    none is given. Answers are judged claim by claim, as the grounder `cross_encoder` will judge them, by the network
    alone or with half of each support by words, whichever tells the rows better apart (AUROC); the threshold is that of
    the highest balanced accuracy. Returns what `grounding.json` holds, which is written beside the model.

    Raises:
        RunError: the run is not finished.
        RecipeError: its task is no classification into one of several labels, or has no such label.
        DataError: there are no rows, or some have no second text.
    """
    if Run.open(folder).manifest["status"] != "finished":
        raise RunError(f"{folder}: this run has no model yet; `burnish resume {folder}` goes on with it")
    recipe = read_recipe(folder / "recipe.yaml", Recipe)
    task, place = recipe.task, data or recipe.data.dev
    if not isinstance(task, Classify) or task.many:
        raise RecipeError(f"{folder}: a detector is a classifier that gives one label, and this is {task.kind}")
    task = task.settled(recipe.data.rows("train", Labelled))
    if label not in task.labels:
        raise RecipeError(
            f"{folder}: no label is called {label!r}.{near_miss(label, task.labels)} There are: {task.labels}"
        )
    if place is None:
        raise DataError(f"{folder}: the recipe names no dev rows (data.dev); give some with --data, no test rows")
    rows = recipe.data.rows_at(place, "dev", Labelled)
    cases = [Case((row.text,), row.pair) for row in rows if row.pair is not None]
    if len(cases) < len(rows):
        raise DataError(f"{place}: {len(rows) - len(cases)} of {len(rows)} rows have no `pair`: the answer to `text`")
    known = Calibrated(
        label=label,
        labels=task.labels,
        threshold=EVEN,
        max_tokens=task.max_tokens,
        mark_new=task.mark_new,
        rows=len(rows),
        balanced_accuracy=EVEN,
    )
    right = [row.label == label for row in rows]
    tried = judged_by(str(folder / "model"), known, cases, by_words=MIXED, progress=progress)
    scores = [[one.score for one in judged if isinstance(one, Grounded)] for judged in tried]  # a network fails whole
    best = max(range(len(MIXED)), key=lambda place: area_under_roc(scores[place], right))  # the first of equals
    cut = calibrated(scores[best], right)
    told = {"threshold": min(1.0, cut.value), "balanced_accuracy": cut.balanced_accuracy, "by_words": MIXED[best]}
    known = known.model_copy(update=told)
    write_calibrated(known, folder / "model")
    return {**known.model_dump(mode="json"), "data": place, "file": str(folder / "model" / FILE)}
