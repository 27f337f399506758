"""Few rows: T-Few's recipe with and without a start learned from other tasks, beside prompting and a new head.

python benchmarks/fewshot.py [--quick] [--tasks intents] [--work FOLDER]
→ benchmarks/results/fewshot.json, docs/benchmarks.md

Starts are learned by `burnish meta` from five source tasks, by each `how` for as many steps, and tried by `burnish
fewshot` on three tasks held out: 4, 16 and 32 rows, drawn five times, two templates; starts with 4 rows, the losses
with 16 and without a start. What is finished in `--work` is read back; a task that is done is written at once.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, bounded, names, write_results, write_table
from fewshot_data import SEED, Given, tasks

from burnish.run import read_json
from burnish.steps.fewshot import fewshot
from burnish.steps.fewshot_recipe import FewShots
from burnish.steps.meta import meta
from burnish.steps.meta_recipe import Meta

MODEL, METHOD = "embedded/smollm2", "ia3"
HOW = ("multitask", "reptile", "fomaml")
LOSSES = {"LM": {"unlikelihood": 0, "ranking": 0}, "LM + LN": {"unlikelihood": 0}, "LM + UL + LN": {}}
ROUNDS, INNER, BATCH, STEPS, SEEDS = 60, 5, 8, 20, 5
HELD_OUT = ("intents", "decisions", "borne")
HEADINGS = ("task", "method", "start", "loss", "rows", "accuracy", "median", "to no start", "to in context", "s", "KB")


def starts(given: Sequence[Given], work: Path, *, quick: bool) -> dict[str, str]:
    """Learn a start by each `how`; return their folders."""
    found = {}
    for how in HOW:
        recipe = {
            "tasks": {one.name: one.written(work / "tasks") for one in given},
            "held_out": [one.name for one in given if one.held_out],
            "model": MODEL,
            "method": METHOD,
            "how": how,
            "rounds": 2 if quick else ROUNDS,
            "inner_steps": 2 if quick else INNER,
            "training": {"batch": BATCH, "evaluations": 0, "dropout": 0.0, "schedule": "constant"},
            "seed": SEED,
        }
        for task in recipe["tasks"].values():  # type: ignore[attr-defined]
            task.pop("test")  # which `fewshot` scores
        meta(Meta.model_validate(recipe), work / f"meta-{how}", say=print, progress=lambda *_: None)
        found[how] = str(work / f"meta-{how}" / "model")
    return found


def compared(
    one: Given, work: Path, *, loss: str, quick: bool, found: Mapping[str, str], shots: Sequence[int], alone: bool
) -> list[dict[str, Any]]:
    """Return a task's rows. alone: the method, and nothing beside it."""
    places = one.written(work / "tasks")
    recipe = FewShots.model_validate(
        {
            **places,
            "task": {**places["task"], "loss": {"kind": "t_few", **LOSSES[loss]}},
            "test_rows": 12 if quick else 100,
            "model": MODEL,
            "method": METHOD,
            "starts": found,
            "shots": list(shots),
            "seeds": 1 if quick else SEEDS,
            "steps": 2 if quick else STEPS,
            "batch": BATCH,
            "in_context": not alone,
            "head": not alone,
            "seed": SEED,
        }
    )
    place = work / "-".join(["fewshot", one.name, *loss.lower().split(" + "), *map(str, shots)])
    told = fewshot(recipe, place, say=print, progress=lambda *_: None)
    rows = [{"task": one.name, "loss": loss, **row} for row in told["rows"]]
    return [row for row in rows if not alone or row["method"] == METHOD]


def table_line(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    gain = row["gain"]
    gains = [bounded(gain[name], "difference") if name in gain else "" for name in ("no start", "in context")]
    costs = [f"{row[key]:.0f}" if row[key] else "" for key in ("seconds", "kilobytes")]
    own = [row["task"], row["method"], row["start"], row["loss"], str(row["shots"])]
    return [*own, bounded(row), f"{row['median']:.3f}", *gains, *costs]


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows into the page's table."""
    note = (
        f"Written by `python benchmarks/fewshot.py`: SmolLM2-135M, {METHOD}, {STEPS} steps of at most {BATCH} rows, "
        f"drawn {SEEDS} times, two templates, 100 test rows; starts of {ROUNDS} rounds of {INNER} steps elsewhere. "
        "Accuracy is a question's mean over draws and templates, its interval over questions; differences are paired."
    )
    write_table("fewshot", "Few rows, SmolLM2", HEADINGS, [table_line(row) for row in rows], note)


def main() -> None:
    """Run the tasks that are asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and steps of one task: a check that it runs")
    known = dict.fromkeys(HELD_OUT)
    parser.add_argument("--tasks", type=lambda text: names(text, known), help=", ".join(known))
    parser.add_argument("--work", type=Path, help="keep what is finished here, and go on with it")
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="burnish-fewshot-"))) / ("quick" if options.quick else "full")
    asked = options.tasks or HELD_OUT[: 1 if options.quick else None]
    given = tasks(work, quick=options.quick)
    found = starts(given, work, quick=options.quick)
    path = RESULTS / f"fewshot{'-quick' if options.quick else ''}.json"
    rows: list[dict[str, Any]] = read_json(path)["rows"] if path.is_file() else []
    for one in given:
        if one.name not in asked:
            continue
        rows = [row for row in rows if row["task"] != one.name]
        rows += compared(one, work, loss="LM + UL + LN", found=found, shots=(4,), alone=False, quick=options.quick)
        more = () if options.quick else (32,)
        rest = compared(one, work, loss="LM + UL + LN", found={}, shots=(16, *more), alone=False, quick=options.quick)
        rows += [row for row in rest if row["shots"]]
        for loss in [*LOSSES][:2]:
            rows += compared(one, work, loss=loss, found={}, shots=(16,), alone=True, quick=options.quick)
        write_results("fewshot", rows, quick=options.quick)
        if not options.quick:
            write_page(rows)
        for row in rows:
            if row["task"] == one.name:
                print(" | ".join(table_line(row)), flush=True)


if __name__ == "__main__":
    main()
