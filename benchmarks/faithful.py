"""BEGIN: a detector of unsupported answers, trained on one half of it, beside the lexical tier on the other half.

python benchmarks/faithful.py [--quick] [--work FOLDER]   → benchmarks/results/faithful.json, docs/benchmarks.md

Wizard of Wikipedia (wow) is learned from: three quarters of its rows train, a quarter is dev, by passage. The
thresholds of all tiers are chosen on dev. CMU-DoG (cmu), other conversations on other passages, is the test part.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import data_folder, write_results, write_table

from burnish.claims import Case, Grounded
from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.evaluation.threshold import calibrated
from burnish.grounding import Grounder
from burnish.metrics import Metric
from burnish.prepare.stratify import split_labelled
from burnish.recipe import Recipe
from burnish.records import Labelled, dump_jsonl
from burnish.run import Run, write_text
from burnish.steps.calibrate import calibrate
from burnish.steps.train import train
from burnish.tables import read_rows

BORNE, NOT = "attributable", "not attributable"
COLUMNS = {"text": "knowledge", "pair": "response", "label": "begin_label"}
METRICS = (Metric.read("balanced_accuracy"), Metric.read({"kind": "auroc", "positive": BORNE}))


def rows_of(part: str) -> list[Labelled]:
    """Return the rows of one part: passage, answer, and whether the answer is fully attributable to it."""
    found = read_rows(data_folder("begin") / f"begin_dev_{part}.tsv", Labelled, COLUMNS)
    borne = {"Fully attributable": BORNE}  # what is generic or not fully so is not
    return [row.model_copy(update={"label": borne.get(str(row.label), NOT), "group": row.text}) for row in found]


def trained(work: Path, sides: Mapping[str, Sequence[Labelled]], *, epochs: float) -> tuple[Path, float]:
    """Train the detector, or take the finished one in the folder; return its model and the seconds."""
    for side, rows in sides.items():
        write_text(work / f"{side}.jsonl", dump_jsonl(rows))
    folder, started = work / "run", time.perf_counter()
    recipe = {
        "task": {
            "kind": "classify",
            "labels": [BORNE, NOT],
            "mark_new": "*",
            "max_tokens": 192,
            "metrics": ["balanced_accuracy", {"kind": "auroc", "positive": BORNE}],
        },
        "model": "embedded/minilm",
        "method": "full",
        "data": {side: str(work / f"{side}.jsonl") for side in sides},
        "training": {"epochs": epochs, "batch": 16, "learning_rate": 1e-4},
    }
    if not (folder / "manifest.json").is_file() or Run.open(folder).manifest["status"] != "finished":
        train(Recipe.model_validate(recipe), folder, say=print, progress=lambda *_: None)
    calibrate(folder, label=BORNE, data=None, progress=lambda *_: None)
    return folder / "model", time.perf_counter() - started


def support(grounder: Grounder, rows: Sequence[Labelled]) -> list[float]:
    """Return the score of each answer."""
    cases = [Case((row.text,), str(row.pair)) for row in rows]
    judged = grounder.load()(cases, progress=lambda *_: None)
    return [one.score for one in judged if isinstance(one, Grounded)]


def main() -> None:
    """Train, calibrate, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch")
    parser.add_argument("--work", type=Path, default=None, help="keeps the trained detector")
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    learned, test = rows_of("wow"), rows_of("cmu")
    on = split_labelled(learned, shares={"train": 0.75, "dev": 0.25}, seed=0)
    sides = {name: [row for row, side in zip(learned, on, strict=True) if side == name] for name in ("train", "dev")}
    model, seconds = trained(work, sides, epochs=1 if asked.quick else 3)
    tiers: dict[str, dict[str, Any]] = {
        "lexical": {"kind": "lexical"},
        "detector": {"kind": "cross_encoder", "model": str(model)},
    }
    references, groups = [str(row.label) for row in test], [row.group for row in test]
    said: dict[str, list[Any]] = {}
    rows: list[dict[str, Any]] = []
    for name, settings in tiers.items():
        grounder = Grounder.read(settings)
        cut = calibrated(support(grounder, sides["dev"]), [row.label == BORNE for row in sides["dev"]])
        started = time.perf_counter()
        scores = support(grounder, test)
        took = time.perf_counter() - started + (seconds if name == "detector" else 0.0)
        said[name] = [[BORNE if score >= cut.value else NOT for score in scores], [{BORNE: score} for score in scores]]
        for metric, predictions in zip(METRICS, said[name], strict=True):
            found = asdict(metric_interval(metric, predictions, references, groups=groups))
            row = {"task": "BEGIN, wow → cmu", "system": name, "metric": metric.label, **found, "seconds": took}
            rows.append({**row, "threshold": cut.value, "dev_balanced_accuracy": cut.balanced_accuracy})
    for place, metric in enumerate(METRICS):
        gain = metric_difference(metric, said["detector"][place], said["lexical"][place], references, groups=groups)
        told = {"task": "BEGIN, wow → cmu", "system": "detector − lexical", "metric": metric.label}
        rows.append({**told, "value": gain.difference, "low": gain.low, "high": gain.high, "p": gain.p, "n": gain.n})
    write_results("faithful", rows, quick=asked.quick)
    for row in rows:
        print(row)
    if not asked.quick:
        lines = [
            [row["system"], row["metric"], f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"] for row in rows
        ]
        note = (
            f"BEGIN's {len(test)} answers on CMU-DoG, {references.count(BORNE)} fully attributable. The detector "
            f"is MiniLM, trained on {len(sides['train'])} answers on Wizard of Wikipedia; thresholds are chosen on "
            f"{len(sides['dev'])} further ones. Intervals and p over passages. `python benchmarks/faithful.py`, seed 0."
        )
        write_table("faithful", "Answers that their passages do not bear", ["tier", "metric", "value"], lines, note)


if __name__ == "__main__":
    main()
