"""Retrieval beside sentence-transformers: what each way to search gains on the standard library and on Cranfield.

python benchmarks/retrieval.py [--quick] [--rows st,plain] [--corpora stdlib] [--work FOLDER] [--dev]
→ benchmarks/results/retrieval.json, retrieval-scores.json, docs/benchmarks.md

Every system starts from `embedded/minilm` and has the same labelled pairs, steps, batch, rate, lengths and seed. The
row `st` needs `pip install 'sentence-transformers[train]'`, and Cranfield its files (see `common.data_folder`).
A row that is done is written at once, beside those of earlier runs: rows can be run apart, and a run that was stopped
is taken up with the `--rows` that are missing. With `--work` trainings are kept too, and not repeated.
`--dev` scores the dev questions, by which settings are chosen, and writes nothing.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from common import bounded, names, write_table
from retrieval_corpora import CORPORA, Corpus, Fold, Side
from retrieval_kept import MAIN, VERSUS, Kept
from retrieval_rows import ROWS, TEACHERS, Made

from burnish.evaluation.measure import measure_retrieval
from burnish.metrics import Metric

METRICS = (MAIN, "Recall@100")
SHORT = {"base": "off the shelf", "st": "sentence-transformers"}
HEADINGS = (
    "corpus",
    "system",
    *METRICS,
    *(f"{MAIN} to {SHORT[other]}" for other in VERSUS),
    "seconds: rows + training + encoding",
    "cores",
    "peak MB",
    "ms a question",
)


@dataclass(frozen=True)
class Searched:
    """What a system found on one fold: metric → question's id → score, and the seconds of encoding and searching."""

    scores: Mapping[str, Mapping[str, float]]
    encode: float
    search: float


def searched(made: Made, fold: Fold, side: Side) -> Searched:
    """Build a system's retriever over all passages, anew, and score it on the questions of a side."""
    index = fold.place / "index"
    shutil.rmtree(index, ignore_errors=True)
    began = time.perf_counter()
    searcher = made.retriever.build(fold.chunks, cache=index, progress=lambda *_: None)
    built = time.perf_counter()
    found = measure_retrieval(searcher, fold.sides[side], [Metric.read(metric) for metric in METRICS])
    ended = time.perf_counter()
    shutil.rmtree(index, ignore_errors=True)
    scores = {metric: dict(zip(each.ids, each.values, strict=True)) for metric, each in found.scores.items()}
    return Searched(scores, built - began if made.encode is None else made.encode, ended - built)


def measured(system: str, corpus: Corpus, side: Side) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Make a system on every fold, and return its costs, a fold's mean, with its scores on all questions."""
    folds = corpus.folds if ROWS[system].labels else [corpus.whole]
    makings: list[Made] = []
    searches: list[Searched] = []
    for fold in folds:
        makings.append(ROWS[system].make(fold))
        searches.append(searched(makings[-1], fold, side))
    scores = {
        metric: {key: value for one in searches for key, value in one.scores[metric].items()} for metric in METRICS
    }
    facts: dict[str, Any] = {
        "folds": len(folds),
        "data_seconds": fmean(made.data for made in makings),
        "train_seconds": fmean(made.train for made in makings),
        "encode_seconds": fmean(one.encode for one in searches),
        "ms_per_question": 1000 * sum(one.search for one in searches) / len(scores[MAIN]),
        "peak_mb": max(made.peak_mb for made in makings),
        "settings": makings[0].settings,
    }
    facts["threads"] = torch.get_num_threads()
    facts["seconds"] = facts["data_seconds"] + facts["train_seconds"] + facts["encode_seconds"]
    if system == "distilled":
        facts["teacher"] = TEACHERS[corpus.name]
    return facts, scores


def table_line(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    told = {other: bounded(each[MAIN], "difference") for other, each in row["versus"].items()}
    beside = [f"{told[other]} to {ROWS[other].label}" for other in told if other not in VERSUS]
    if row.get("kept_share") is not None:
        beside.append(f"keeps {row['kept_share']:.0%} of its gain")
    costs = [f"{row[key]:.0f}" for key in ("data_seconds", "train_seconds", "encode_seconds")]
    return [
        row["task"],
        row["label"] + (f" ({'; '.join(beside)})" if beside else ""),
        *(bounded(row["scores"][metric]) for metric in METRICS),
        *(told.get(other, "") for other in VERSUS),
        " + ".join(costs),
        str(row["threads"]),
        f"{row['peak_mb']:,.0f}" if row["peak_mb"] else "",
        f"{row['ms_per_question']:.1f}",
    ]


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows into the page's table."""
    note = (
        "Written by `python benchmarks/retrieval.py`. All systems are cut at the same lengths and trained for the same "
        "steps at the same batch, rate and seed. Intervals are 95 %, over modules on the library; differences are "
        "paired. Cranfield: five folds, each question scored by the model that has not seen it; seconds are a fold's. "
        "Peak memory is that of the training."
    )
    write_table("retrieval", "Retrieval, MiniLM", HEADINGS, [table_line(row) for row in rows], note)


def main() -> None:
    """Run the rows that are asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and steps: a check that it runs")
    parser.add_argument("--rows", type=lambda text: names(text, ROWS), default=[*ROWS], help=", ".join(ROWS))
    parser.add_argument(
        "--corpora", type=lambda text: names(text, CORPORA), default=[*CORPORA], help=", ".join(CORPORA)
    )
    parser.add_argument("--work", type=Path, help="keep trainings here, and go on with what is finished")
    parser.add_argument("--dev", action="store_true", help="score the dev questions, and write nothing")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="burnish-retrieval-"))
    side: Side = "dev" if options.dev else "test"
    kept = Kept() if options.dev else Kept.read(quick=options.quick)
    for name in options.corpora:
        corpus = CORPORA[name](work / ("quick" if options.quick else "full"), quick=options.quick)
        for system in options.rows:
            facts, scores = measured(system, corpus, side)
            kept.add(name, system, facts, scores, asked=corpus.whole.sides[side], chunks=corpus.whole.chunks)
            print(" | ".join(table_line(kept.row(name, system))), flush=True)
            if not options.dev:
                kept.write(quick=options.quick)
                if not options.quick:
                    write_page(kept.rows)


if __name__ == "__main__":
    main()
