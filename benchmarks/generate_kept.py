"""What benchmarks/generate.py found: each system's scores, row by row, kept from run to run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common import RESULTS, json_object, write_results
from generate_data import DATA, SEED
from generate_rows import ROWS

from burnish.evaluation.compare import compare
from burnish.evaluation.score import Scores, interval
from burnish.records import Completion, records_fingerprint
from burnish.run import read_json, write_text

COMPARED = ("few", "sft")  # the systems that all others are held against
Facts = Mapping[str, Any]


class Kept:
    """Facts and scores of the systems, by data set; intervals and differences are computed of what is there.

    results/generate.json holds the rows, results/generate-scores.json every row's score and text, so that a system
    which is run alone is compared with what others had on the same rows.
    """

    def __init__(self, *, quick: bool) -> None:
        """Begin with what earlier runs found."""
        self._quick = quick
        self._path = RESULTS / f"generate-scores{'-quick' if quick else ''}.json"
        self._data: dict[str, dict[str, Any]] = read_json(self._path) if self._path.is_file() else {}

    def add(
        self,
        data: str,
        system: str,
        facts: Facts,
        scores: Mapping[str, Sequence[float]],
        texts: Sequence[str],
        *,
        asked: Sequence[Completion],
    ) -> None:
        """Add a system, in the place of what was known of it; what is known of other rows goes.

        scores: metric → a score for each row, in the order of `asked`.
        """
        told = {"rows": records_fingerprint(asked), "ids": [row.id for row in asked]}
        known = self._data.get(data)
        if known is None or {key: known.get(key) for key in told} != told:
            self._data[data] = {**told, "systems": {}}
        rounded = {metric: [round(value, 6) for value in values] for metric, values in scores.items()}
        self._data[data]["systems"][system] = {"facts": facts, "scores": rounded, "texts": [*texts]}

    def told(self, data: str, system: str, asked: Sequence[Completion]) -> tuple[Facts, list[str]] | None:
        """Return a system's facts and its answers to these rows, if they are known."""
        found = self._data.get(data, {})
        if found.get("rows") != records_fingerprint(asked) or system not in found["systems"]:
            return None
        own = found["systems"][system]
        return own["facts"], own["texts"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of data sets and systems."""
        return [
            self.row(data, system)
            for data in DATA
            for system in ROWS
            if system in self._data.get(data, {}).get("systems", {})
        ]

    def row(self, data: str, system: str) -> dict[str, Any]:
        """Return a system's facts with its scores, and its paired differences to few-shot prompting and to SFT."""
        systems = self._data[data]["systems"]
        own = systems[system]
        row = {"task": data, "system": system, "label": ROWS[system].label, **own["facts"]}
        scores = {metric: self._of(data, system, metric) for metric in own["scores"]}
        row["scores"] = {metric: asdict(interval(found, seed=SEED)) for metric, found in scores.items()}
        row["versus"] = {
            other: {
                metric: asdict(compare(found, self._of(data, other, metric), seed=SEED))
                for metric, found in scores.items()
                if metric in systems[other]["scores"]
            }
            for other in COMPARED
            if other in systems and other != system
        }
        return row

    def write(self) -> None:
        """Write rows and scores, a system of the scores a line."""
        write_results("generate", self.rows, quick=self._quick)
        write_text(
            self._path, json_object({name: json_object(_lines(found)) for name, found in self._data.items()}) + "\n"
        )

    def _of(self, data: str, system: str, metric: str) -> Scores:
        found = self._data[data]
        values = found["systems"][system]["scores"][metric]
        return Scores(metric, tuple(found["ids"]), tuple(values), ("",) * len(values))


def _lines(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of a data set as JSON texts, each system's apart."""
    systems = json_object({name: json.dumps(told, ensure_ascii=False) for name, told in found["systems"].items()})
    return {key: systems if key == "systems" else json.dumps(value) for key, value in found.items()}
