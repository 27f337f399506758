"""What benchmarks/joint.py found: every system's scores by seed and question, kept from run to run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from common import RESULTS, json_object, write_results
from joint_rows import ROWS

from burnish.evaluation.compare import compare
from burnish.evaluation.score import Scores, interval
from burnish.run import read_json, write_text

RETRIEVAL, ANSWER = "nDCG@10", "exact match"
COMPARED = ("start", "generator")  # the systems that all others are held against
SEED = 0


class Kept:
    """What each system did with each seed; a row is of all its seeds.

    results/joint.json holds the rows, results/joint-scores.json every question's scores. A question's score is the mean
    over seeds, so that intervals are of the questions; `by_seed` tells how far seeds are apart.
    """

    def __init__(self, *, quick: bool) -> None:
        """Begin with what earlier runs found."""
        self._quick = quick
        self._path = RESULTS / f"joint-scores{'-quick' if quick else ''}.json"
        self._found: dict[str, Any] = read_json(self._path) if self._path.is_file() else {}

    def add(self, system: str, seed: int, scores: Mapping[str, Scores], facts: Mapping[str, Any], stamp: str) -> None:
        """Add a system with one seed; stamp: names the questions and passages. What is known of others goes."""
        if self._found.get("stamp") != stamp:
            self._found = {"stamp": stamp, "asked": {}, "systems": {}}
        for metric, found in scores.items():
            self._found["asked"][metric] = {"ids": [*found.ids], "groups": [*found.groups]}
        values = {metric: [round(value, 6) for value in found.values] for metric, found in scores.items()}
        self._found["systems"].setdefault(system, {})[str(seed)] = {"facts": facts, "scores": values}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of systems."""
        return [self.row(system) for system in ROWS if system in self._found.get("systems", {})]

    def row(self, system: str) -> dict[str, Any]:
        """Return a system's row: means over seeds, intervals over questions, paired differences."""
        runs = self._found["systems"][system]
        metrics = list(next(iter(runs.values()))["scores"])
        row: dict[str, Any] = {
            "task": "stdlib",
            "system": system,
            "label": ROWS[system].label,
            "seeds": [*map(int, runs)],
        }
        row["scores"] = {metric: asdict(interval(self._of(system, metric), seed=SEED)) for metric in metrics}
        row["by_seed"] = {metric: [fmean(run["scores"][metric]) for run in runs.values()] for metric in metrics}
        row["versus"] = {
            other: {
                metric: asdict(compare(self._of(system, metric), self._of(other, metric), seed=SEED))
                for metric in metrics
                if metric in next(iter(self._found["systems"][other].values()))["scores"]
            }
            for other in COMPARED
            if other in self._found["systems"] and other != system
        }
        facts = [run["facts"] for run in runs.values()]
        row["seconds"] = fmean(fact["seconds"] for fact in facts)
        row["peak_mb"] = max(fact["peak_mb"] for fact in facts)
        for name in ("quadrants", "different_shown", "course", "settings"):
            row[name] = [fact[name] for fact in facts]
        return row

    def write(self) -> None:
        """Write rows and scores, a system with a seed a line."""
        write_results("joint", self.rows, quick=self._quick)
        systems = {
            name: json_object({seed: json.dumps(run) for seed, run in runs.items()})
            for name, runs in self._found["systems"].items()
        }
        told = {key: json.dumps(self._found[key]) for key in ("stamp", "asked")}
        write_text(self._path, json_object({**told, "systems": json_object(systems)}) + "\n")

    def _of(self, system: str, metric: str) -> Scores:
        runs: Sequence[Any] = [*self._found["systems"][system].values()]
        asked = self._found["asked"][metric]
        values = [fmean(each) for each in zip(*(run["scores"][metric] for run in runs), strict=True)]
        return Scores(metric, tuple(asked["ids"]), tuple(values), tuple(asked["groups"]))
