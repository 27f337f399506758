"""What benchmarks/retrieval.py found: each system's scores, question by question, kept from run to run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from common import RESULTS, json_object, write_results
from retrieval_corpora import CORPORA, SEED
from retrieval_rows import ROWS

from burnish.evaluation.compare import compare
from burnish.evaluation.score import Scores, interval
from burnish.records import Chunk, Question, records_fingerprint
from burnish.run import read_json, write_text

MAIN = "nDCG@10"
VERSUS = ("base", "st")
_COMPUTED = ("task", "system", "label", "scores", "versus", "kept_share")

Facts = Mapping[str, Any]


class Kept:
    """Facts and scores of the systems, by corpus. Intervals and differences are computed of the scores that are there.

    results/retrieval.json holds the rows; results/retrieval-scores.json every question's score, so that a system which
    is run alone is compared with what others had on the same questions.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self._facts: dict[tuple[str, str], Facts] = {}
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._scores: dict[str, dict[str, Any]] = {}

    @classmethod
    def read(cls, *, quick: bool) -> "Kept":
        """Return what earlier runs found."""
        kept = cls()
        rows, scores = (RESULTS / f"{name}{_ending(quick)}" for name in ("retrieval", "retrieval-scores"))
        if rows.is_file() and scores.is_file():
            kept._scores = read_json(scores)
            known = {name: each["scores"] for name, each in kept._scores.items()}
            found = [
                row
                for row in read_json(rows)["rows"]
                if row["system"] in ROWS and row["system"] in known.get(row["task"], {})
            ]
            kept._rows = {(row["task"], row["system"]): row for row in found}
            kept._facts = {key: _facts(row) for key, row in kept._rows.items()}
        return kept

    def add(
        self,
        corpus: str,
        system: str,
        facts: Facts,
        scores: Mapping[str, Mapping[str, float]],
        *,
        asked: Sequence[Question],
        chunks: Sequence[Chunk],
    ) -> None:
        """Add a system, in the place of what was known of it; scores: metric → question's id → score.

        What is known of other questions or passages goes: it compares with nothing.
        """
        told = {
            "passages": records_fingerprint(chunks),
            "ids": [question.id for question in asked],
            "groups": [question.group for question in asked],
        }
        known = self._scores.get(corpus)
        if known is None or {key: known.get(key) for key in told} != told:
            self._scores[corpus] = {**told, "scores": {}}
            self._facts = {key: found for key, found in self._facts.items() if key[0] != corpus}
        listed = {metric: [round(each[key], 6) for key in told["ids"]] for metric, each in scores.items()}
        self._scores[corpus]["scores"][system] = listed
        self._facts[corpus, system] = facts
        self._rows |= {key: self._row(*key) for key in self._facts if key[0] == corpus}
        self._rows = {key: row for key, row in self._rows.items() if key in self._facts}

    def row(self, corpus: str, system: str) -> dict[str, Any]:
        """Return a system's row."""
        return self._rows[corpus, system]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of corpora and systems."""
        return [self._rows[key] for key in ((c, s) for c in CORPORA for s in ROWS) if key in self._rows]

    def write(self, *, quick: bool) -> None:
        """Write rows and scores; a line of the scores is a system's."""
        write_results("retrieval", self.rows, quick=quick)
        corpora = {
            name: json_object(
                {key: _scores(value) if key == "scores" else json.dumps(value) for key, value in found.items()}
            )
            for name, found in self._scores.items()
        }
        write_text(RESULTS / f"retrieval-scores{_ending(quick)}", json_object(corpora) + "\n")

    def _row(self, corpus: str, system: str) -> dict[str, Any]:
        """Return facts with intervals, paired differences, and what a student keeps of its teacher's gain."""
        known = self._scores[corpus]["scores"]
        teacher = self._facts[corpus, system].get("teacher")
        beside = ("hybrid",) if system == "rerank" else (teacher,)
        others = [other for other in (*VERSUS, *beside) if other in known and other != system]
        row = {"task": corpus, "system": system, "label": ROWS[system].label, **self._facts[corpus, system]}
        row["scores"] = {
            metric: asdict(interval(self._of(corpus, system, metric), seed=SEED)) for metric in known[system]
        }
        row["versus"] = {
            other: {
                metric: asdict(compare(self._of(corpus, system, metric), self._of(corpus, other, metric), seed=SEED))
                for metric in known[system]
            }
            for other in others
        }
        if {"base", teacher} <= known.keys():
            values = [sum(known[name][MAIN]) for name in (system, teacher, "base")]
            row["kept_share"] = kept_share(*values)
        return row

    def _of(self, corpus: str, system: str, metric: str) -> Scores:
        found = self._scores[corpus]
        values = found["scores"][system][metric]
        return Scores(metric, tuple(found["ids"]), tuple(values), tuple(found["groups"]))


def kept_share(student: float, teacher: float, base: float) -> float | None:
    """Return the share of the teacher's gain over the base that the student keeps; None where there is no gain."""
    return (student - base) / (teacher - base) if teacher > base else None


def _facts(row: Mapping[str, Any]) -> Facts:
    return {key: value for key, value in row.items() if key not in _COMPUTED}


def _scores(systems: Mapping[str, Any]) -> str:
    return json_object({name: json.dumps(found) for name, found in systems.items()})


def _ending(quick: bool) -> str:
    return "-quick.json" if quick else ".json"
