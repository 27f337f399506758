"""Ladder: the same held-out questions, answered rung by rung, with what each step gained and cost."""

import resource
import time
from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.evaluation.measure import Measured, quadrants
from burnish.evaluation.report import write_report
from burnish.evaluation.verdict import all_better, comparisons, rung_scores, verdict
from burnish.ladder_recipe import Ladder
from burnish.prepare.corpus import Prepared, prepare
from burnish.prepare.folder import open_prepared, save
from burnish.prepare.synthesize import sample
from burnish.recipe import to_yaml
from burnish.records import Question
from burnish.retrievers import Progress
from burnish.run import locked, read_json, versions, write_json, write_text
from burnish.steps.advice import ladder_advice
from burnish.steps.climb import Climb
from burnish.steps.samples import write_samples
from burnish.steps.train import Say


def ladder(recipe: Ladder, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Climb the ladder in its folder, reusing what is finished there; return what `ladder.json` holds."""
    with locked(folder):
        _claim(recipe, folder)
        data = prepared(recipe, folder / "data", progress=progress)
        questions = asked(recipe, data)
        climb = Climb(recipe, folder, data, questions, say=say, progress=progress)
        measured = {rung.name: climb.rung(rung) for rung in recipe.rungs}
        found = _told(recipe, climb, measured)
        write_json(folder / "ladder.json", found)
        write_json(folder / "pipeline.json", climb.pipeline())
        write_samples(folder / "samples.jsonl", data, questions, measured)
        progress("writing the report", 0, 1)
        write_report(folder)
        return found


def prepared(recipe: Ladder, folder: Path, *, progress: Progress) -> Prepared:
    """Return the ladder's data: read, split and checked on the first call, opened from its folder on later ones."""
    if folder.is_dir():
        return open_prepared(folder)
    progress("reading the source", 0, 1)
    source = recipe.corpus.reader.load()
    shares = {"train": 1 - recipe.corpus.dev - recipe.corpus.test, "dev": recipe.corpus.dev, "test": recipe.corpus.test}
    progress("splitting and checking for leaks", 0, 1)
    data = prepare(source, name=recipe.name, shares=shares, seed=recipe.seed)
    save(data, folder)
    return data


def asked(recipe: Ladder, data: Prepared) -> list[Question]:
    """Return the fixed sample of test questions that the answer rungs are asked, in the order of the test set."""
    return sample(data.test, recipe.answer_questions, seed=recipe.seed)


def _claim(recipe: Ladder, folder: Path) -> None:
    """Write the recipe into the folder, or check that it is the one that stands there.

    Raises:
        RunError: the folder was made with another recipe.
    """
    text, path = to_yaml(recipe), folder / "recipe.yaml"
    if path.is_file():
        earlier = path.read_text(encoding="utf-8")
        if earlier != text:
            changed = sorted(set(text.splitlines()) ^ set(earlier.splitlines()))
            raise RunError(
                f"{folder}: this ladder was climbed with another recipe (it differs in {changed[0].strip()!r}); "
                "name another folder with --run, or remove this one"
            )
        return
    write_text(path, text)
    write_json(folder / "started.json", {"time": time.time(), "versions": versions()})


def _told(recipe: Ladder, climb: Climb, measured: dict[str, Measured]) -> dict[str, Any]:
    """Put together what `ladder.json` holds."""
    names = [rung.name for rung in recipe.rungs]
    kinds = {name: measured[name].kind for name in names}
    before = {
        name: next((n for n in reversed(names[:place]) if kinds[n] == kinds[name]), None)
        for place, name in enumerate(names)
    }
    steps = [(name, earlier) for name, earlier in before.items() if earlier]
    further = [pair for pair in recipe.compare if pair not in steps]
    rows = comparisons([*steps, *further], measured, seed=recipe.seed)
    versus = {row["rung"]: row for row in rows[: len(steps)]}
    compared = [row for row in rows if (row["rung"], row["name"]) in (recipe.compare or steps)]
    rungs = [
        {
            "name": name,
            "kind": kinds[name],
            "scores": rung_scores(measured[name], seed=recipe.seed),
            **climb.costs(name),
            "versus": versus.get(name),
            **_answered(measured[name], climb.questions),
        }
        for name in names
    ]
    return {
        "name": recipe.name,
        "rungs": rungs,
        "comparisons": rows,
        "verdict": verdict(compared),
        "advice": [] if all_better(compared) else ladder_advice(recipe),
        "notes": climb.notes,
        "main": {"retrieval": recipe.retrieval_metrics[0].label, "answer": recipe.answer_metrics[0].label},
        "best_retriever": climb.best_name,
        "device": climb.device,
        "versions": read_json(climb.folder / "started.json")["versions"],
        "seed": recipe.seed,
        "seconds": sum(rung["seconds"] for rung in rungs),
        "peak_mb": max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, climb.peak_mb),
    }


def _answered(measured: Measured, questions: list[Question]) -> dict[str, Any]:
    """Return the table that tells retriever faults from generator faults, where passages were shown."""
    if measured.kind != "answer" or not any(measured.rankings.values()):
        return {"quadrants": None, "ceiling": None}
    table = quadrants(measured, questions)
    return {"quadrants": table, "ceiling": (table["retrieved_right"] + table["retrieved_wrong"]) / len(questions)}
