"""BEGIN: a detector of unsupported answers, trained on one part of it, beside the lexical tier on the other part.

python benchmarks/faithful.py [--quick] [--work FOLDER]   → benchmarks/results/faithful.json, docs/benchmarks.md

Its parts are Wizard of Wikipedia (wow, a passage is a sentence) and CMU-DoG (cmu, longer passages on films). Of the
part that is learned from three quarters of the rows train and a quarter is dev, by passage; the thresholds of both
tiers, and whether words have a share in the detector's support, are chosen on dev.
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
from burnish.models.detector import read_calibrated
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


def compared(learned_of: str, test_of: str, work: Path, *, epochs: float) -> tuple[list[dict[str, Any]], str]:
    """Train on one part and score both tiers on the other; return their rows, and a sentence on the data."""
    learned, test = rows_of(learned_of), rows_of(test_of)
    on = split_labelled(learned, shares={"train": 0.75, "dev": 0.25}, seed=0)
    sides = {name: [row for row, side in zip(learned, on, strict=True) if side == name] for name in ("train", "dev")}
    model, seconds = trained(work, sides, epochs=epochs)
    tiers: dict[str, dict[str, Any]] = {
        "lexical": {"kind": "lexical"},
        "detector": {"kind": "cross_encoder", "model": str(model)},
    }
    task = {"task": f"BEGIN, {learned_of} → {test_of}"}
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
            told = {"threshold": cut.value, "dev_balanced_accuracy": cut.balanced_accuracy}
            rows.append({**task, "system": name, "metric": metric.label, **found, "seconds": took, **told})
    for place, metric in enumerate(METRICS):
        gain = metric_difference(metric, said["detector"][place], said["lexical"][place], references, groups=groups)
        told = {"value": gain.difference, "low": gain.low, "high": gain.high, "p": gain.p, "n": gain.n}
        rows.append({**task, "system": "detector − lexical", "metric": metric.label, **told})
    known = read_calibrated(model)
    assert known is not None, "it is calibrated"
    return rows, (
        f"{learned_of} → {test_of}: {len(test)} answers, {references.count(BORNE)} fully attributable; "
        f"{len(sides['train'])} rows train, {len(sides['dev'])} are dev; share by words {known.by_words:g}."
    )


def main() -> None:
    """Train, calibrate, score, compare, in both directions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one epoch, and one direction")
    parser.add_argument("--work", type=Path, default=None, help="keeps the trained detectors")
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    rows, notes = [], []
    for learned, test in [("wow", "cmu")] if asked.quick else [("wow", "cmu"), ("cmu", "wow")]:
        found, note = compared(learned, test, work / learned, epochs=1 if asked.quick else 3)
        rows += found
        notes.append(note)
        for row in found:
            print(row, flush=True)
    write_results("faithful", rows, quick=asked.quick)
    if not asked.quick:
        lines = [
            [row["task"], row["system"], row["metric"], f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"]
            for row in rows
        ]
        note = (
            f"{' '.join(notes)} The detector is MiniLM, trained for three epochs. Intervals over passages, differences "
            "paired. `python benchmarks/faithful.py`, seed 0."
        )
        title = "Answers that their passages do not bear"
        write_table("faithful", title, ["parts", "tier", "metric", "value"], lines, note)


if __name__ == "__main__":
    main()
