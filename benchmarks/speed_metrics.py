"""Metrics with their intervals, for benchmarks/speed.py: burnish beside pytrec-eval, rouge-score and scipy."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from common import scitldr
from speed_work import Asked, System, Told, Work, clock

from burnish.evaluation.score import Scores, interval
from burnish.metrics import Metric
from burnish.records import Completion, read_jsonl
from burnish.run import write_json

RESAMPLES = 10_000
PASSAGES, HITS = 5_000, 100
Found = Mapping[str, Sequence[float]]  # by metric, each example's score


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write rankings with their qrels, and the first sentences of abstracts with the abstracts' summaries."""
    chance, rows, others = Random(0), asked["steps"] * asked["batch"], range(PASSAGES)
    rankings = [[f"p{place}" for place in chance.sample(others, HITS)] for _ in range(rows)]
    grades = [
        {key: 1 + chance.randrange(3) for key in [chance.choice(ranking), *(f"p{n}" for n in chance.sample(others, 2))]}
        for ranking in rankings
    ]
    source = read_jsonl(Path(scitldr(folder, train_rows=None, test_rows=None)["train"]), Completion)[:rows]
    texts = [row.prompt[-1].content if not isinstance(row.prompt, str) else row.prompt for row in source]
    leads = [" ".join(text.split()[:40]) for text in texts]
    told = {"rankings": rankings, "grades": grades, "said": leads, "right": [row.completion for row in source]}
    write_json(folder / "rows.json", told)
    return {"rows": str(folder / "rows.json")}


def _turn(asked: Asked) -> Told:
    whole = json.loads(Path(asked["rows"]).read_text(encoding="utf-8"))
    measure = _ours if asked["system"] == "burnish" else _theirs
    seconds, values, units = [], [], []
    for some in (slice(0, asked["batch"]), slice(asked["batch"], None)):
        rows = {name: part[some] for name, part in whole.items()}
        began = clock()
        values = measure(rows)
        seconds.append(clock() - began)
        units.append(len(rows["rankings"]) + len(rows["said"]))
    return {"seconds": seconds, "before": 0.0, "tokens": units, "units": units, "losses": values, "dtype": "float64"}


def _ours(rows: Mapping[str, Any]) -> list[float]:
    found = {}
    for name in ("nDCG@10", "recall@100", "MRR@100"):
        found[name] = Metric.read(name).score(rows["rankings"], rows["grades"])
    for variant in ("1", "l"):
        metric = Metric.read({"kind": "rouge", "variant": variant})
        found[metric.label] = metric.score(rows["said"], [[right] for right in rows["right"]])

    def bounds(name: str, values: Sequence[float]) -> list[float]:
        ids = tuple(map(str, range(len(values))))
        got = interval(Scores(name, ids, tuple(values), ("",) * len(values)), resamples=RESAMPLES)
        return [got.value, got.low, got.high]

    return _all(found, bounds)


def _theirs(rows: Mapping[str, Any]) -> list[float]:
    """Return the same by others; rouge-score alone counts words of a-z and 0-9, which these texts are of."""
    import numpy as np
    import pytrec_eval
    from rouge_score.rouge_scorer import RougeScorer
    from scipy.stats import bootstrap

    qrels = {f"q{number}": grades for number, grades in enumerate(rows["grades"])}
    run = {
        f"q{number}": {key: float(HITS - place) for place, key in enumerate(ranking)}
        for number, ranking in enumerate(rows["rankings"])
    }
    names = {"nDCG@10": "ndcg_cut_10", "recall@100": "recall_100", "MRR@100": "recip_rank"}
    ranked = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100", "recip_rank"}).evaluate(run)
    found = {name: [ranked[key][theirs] for key in qrels] for name, theirs in names.items()}
    scorer = RougeScorer(["rouge1", "rougeL"])
    scores = [scorer.score(right, said) for said, right in zip(rows["said"], rows["right"], strict=True)]
    found |= {name: [score[name].fmeasure for score in scores] for name in ("rouge1", "rougeL")}

    def bounds(_: str, values: Sequence[float]) -> list[float]:
        got = bootstrap(
            (np.array(values),), np.mean, n_resamples=RESAMPLES, method="percentile", batch=1000, rng=0
        ).confidence_interval
        return [float(np.mean(values)), float(got.low), float(got.high)]

    return _all(found, bounds)


def _all(found: Found, bounds: Callable[[str, Sequence[float]], list[float]]) -> list[float]:
    """Return value, low and high of every metric, one behind the other."""
    return [number for name, values in found.items() for number in bounds(name, values)]


WORK = Work(
    label="Metrics with intervals",
    unit="rows",
    systems={
        "burnish": System("burnish", "default", "fp32"),
        "peers": System("pytrec-eval, rouge-score, scipy", "default", "fp32"),
    },
    size={"steps": 2, "batch": 900},
    quick={"steps": 2, "batch": 50},
    begin=_begin,
    turn=_turn,
    note=(
        "nDCG@10, Recall@100 and MRR of rankings of 100, ROUGE-1 and ROUGE-L of summaries, each with the interval of "
        f"{RESAMPLES:,} resamples; the gap is the largest between two numbers of a table, bounds of intervals included."
    ),
)
