"""Tune: training settings searched for, trial by trial; ends with the best of them as a recipe."""

import shutil
import time
from pathlib import Path
from typing import Any

from burnish.errors import DataError, DivergedError, ModelError, RecipeError
from burnish.recipe import Recipe, to_yaml
from burnish.retrievers import Progress
from burnish.run import Run, locked, versions, write_json, write_text
from burnish.steps.claim import claim, each_once, for_training, require
from burnish.steps.space import RATE, Space, space_of, with_settings, words
from burnish.steps.study import Study, Tried
from burnish.steps.train import Pruned, Rows, Say, read_sides, trained

NEAR_EDGE = 1.3  # a best rate this close to a bound, by a factor, is said to be at the edge
FINISHED, PRUNED, DIVERGED, REFUSED = "finished", "pruned", "diverged", "refused"


def tune(recipe: Recipe, folder: Path, *, trials: int, say: Say, progress: Progress) -> dict[str, Any]:
    """Search the recipe's settings in `folder`, or go on with a search there; return what `tune.json` holds.

    Every trial is a run of its own in `trials/NNN`, without the test rows. The dev score chooses: the best that was
    heard, or where the recipe keeps the last weights, theirs. Only the best trial keeps its model. Trials that ended
    are not repeated; one that was stopped goes on from its newest checkpoint, or starts anew where it has none.

    Raises:
        RecipeError: the recipe has no dev rows, or does not score them.
        RunError: the folder was begun with another recipe or other rows.
        ModelError: the recipe's own settings do not fit the model.
        DataError: rows are faulty, or the model of the recipe's own settings cannot be scored.
    """
    require("dev", recipe.data.dev, "a search compares scores of rows that are not trained on")
    if not recipe.training.evaluations:
        raise RecipeError("training.evaluations: a search compares dev scores, and 0 asks for none; give at least 1")
    rows = read_sides(recipe)
    with locked(folder):
        claim(folder, recipe, rows.lists, kind="tune")
        space = space_of(recipe, rows=len(rows.train))
        study = Study(folder / "journal.jsonl", space, seed=recipe.seed)
        once = each_once(say)
        while (trial := study.next(trials)) is not None:
            _try(recipe, folder, study, trial, trials, say=say, once=once, progress=progress)
            _keep_best(folder, study.tried())
        _keep_best(folder, study.tried())
        return _told(recipe, folder, space, study.tried(), rows)


def _try(
    recipe: Recipe,
    folder: Path,
    study: Study,
    trial: Tried,
    trials: int,
    *,
    say: Say,
    once: Say,
    progress: Progress,
) -> None:
    """Train one trial and note how it ended; one that cannot be trained or scored is refused, and the search goes on.

    Raises:
        ModelError: the first trial, which is the recipe as it is, does not fit the model.
        DataError: it cannot be scored.
    """
    place, began = run_folder(folder, trial.number), time.perf_counter()
    say(f"▸ trial {trial.number} of {trials}: {words(trial.settings)}{_goes_on(place)}")
    run = Run(place)
    before = sum(line["seconds"] for line in run.lines("clock.jsonl"))

    def heard(step: int, score: float) -> None:
        worth = study.hear(trial.number, len(run.lines("dev.jsonl")), score)
        if not worth and step < run.lines("log.jsonl")[-1]["of"]:
            raise Pruned(f"after step {step} its dev scores lie below the median of the trials before it")

    score, state, note = None, FINISHED, ""
    try:
        done = trained(
            for_training(with_settings(recipe, trial.settings)),
            place,
            say=once,
            progress=lambda what, done, of: progress(f"trial {trial.number} of {trials}: {what}", done, of),
            heard=heard,
        )
        state, note = done.manifest["status"], done.manifest.get("stopped_early", "")
        score = dev_score(recipe, done) if state == FINISHED else None
    except Pruned as reason:
        state, note = PRUNED, str(reason)
    except DivergedError as error:
        state, note = DIVERGED, str(error)
    except (ModelError, DataError) as error:
        if trial.number == 1:
            raise
        state, note = REFUSED, str(error)
    if state in (DIVERGED, REFUSED):
        end_run(place, state, note)
    study.end(trial.number, score, state=state, seconds=before + time.perf_counter() - began, note=note)


def run_folder(folder: Path, number: int) -> Path:
    """Return where a trial's run stands."""
    return folder / "trials" / f"{number:03d}"


def end_run(place: Path, status: str, reason: str) -> None:
    """Have the folder of a run that cannot go on say so; its checkpoints go."""
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    facts = {"status": status, "stopped_early": reason}
    write_json(place / "manifest.json", {**Run.open(place).manifest, **facts})


def dev_score(recipe: Recipe, run: Run) -> float:
    """Return the dev score, higher is better, of the weights that a finished run kept."""
    scores = [line["value"] for line in run.lines("dev.jsonl")]
    return float(max(scores) if recipe.training.keep == "best" else scores[-1])


def _goes_on(place: Path) -> str:
    """Return what to say of a trial that was begun before."""
    if not (place / "manifest.json").is_file() or Run.open(place).manifest["status"] != "started":
        return ""
    steps = [int(found.name) for found in (place / "checkpoints").glob("[0-9]*")]
    return f" (goes on after step {max(steps)})" if steps else " (was stopped before its first checkpoint: starts anew)"


def _keep_best(folder: Path, tried: list[Tried]) -> None:
    """Remove the models of all trials but the best so far."""
    best = _best(tried)
    for trial in tried:
        if best is None or trial.number != best.number:
            shutil.rmtree(run_folder(folder, trial.number) / "model", ignore_errors=True)


def _best(tried: list[Tried]) -> Tried | None:
    """Return the finished trial with the best score, the first of equals."""
    finished = [(trial.score, trial) for trial in tried if trial.state == FINISHED and trial.score is not None]
    return max(finished, key=lambda pair: pair[0])[1] if finished else None


def _told(recipe: Recipe, folder: Path, space: Space, tried: list[Tried], rows: Rows) -> dict[str, Any]:
    """Write `tune.json` and `best.yaml`; return what the first holds, scores as the metric itself has them."""
    metric, best = recipe.task.metrics[0], _best(tried)
    sign = 1 if metric.higher_is_better else -1
    found = {
        "kind": "tune",
        "metric": metric.label,
        "higher_is_better": metric.higher_is_better,
        "dev_rows": len(rows.dev),
        "searched": {RATE: [space.low, space.high], **{name: [*found] for name, found in space.choices.items()}},
        "trials": [
            {
                "trial": trial.number,
                "settings": trial.settings,
                "dev": None if trial.score is None else sign * trial.score,
                "state": trial.state,
                "seconds": trial.seconds,
                "note": trial.note,
            }
            for trial in tried
        ],
        "best": best.number if best else None,
        "sentence": _sentence(metric.label, sign, space, tried, best),
        "seed": recipe.seed,
        "versions": versions(),
    }
    if best:
        write_text(folder / "best.yaml", to_yaml(with_settings(recipe, best.settings)))
    write_json(folder / "tune.json", found)
    return found


def _sentence(metric: str, sign: int, space: Space, tried: list[Tried], best: Tried | None) -> str:
    """Say which trial is best, what it gains over the recipe as it is, and how far that can be trusted."""
    if best is None or best.score is None:
        return "No trial came to its end; tune.json says what stopped each."
    reached = f"dev {metric} {sign * best.score:.3f}"
    if best.number == 1:
        return f"The recipe as it is was not beaten in {len(tried)} trial{'s' * (len(tried) > 1)}: {reached}."
    own = tried[0].score
    before = f"{sign * own:.3f}" if tried[0].state == FINISHED and own is not None else "did not come to its end"
    rate = best.settings[RATE] or 0.0
    edge = ""
    if rate < space.low * NEAR_EDGE or rate > space.high / NEAR_EDGE:
        edge = f" Its learning rate is at the edge of what was searched, {space.low:.3g} to {space.high:.3g}."
    return (
        f"Trial {best.number} is the best of {len(tried)}: {reached}, the recipe as it is {before} "
        f"({words(best.settings)}).{edge} The best of several is flattered by the choice: test rows tell what it gains."
    )
