"""A generator on PubMedQA and SciTLDR: prompts, supervised training, preferences and reinforcement, on the same rows.

python benchmarks/generate.py [--quick] [--rows few,sft] [--data PubMedQA] [--work FOLDER]
→ benchmarks/results/generate.json, generate-scores.json, docs/benchmarks.md

Every system starts from `embedded/smollm2`, learns from 128 rows and answers a fixed sample of 64 official test rows. A
row that is done is written at once, beside those of earlier runs: rows can be run apart. With `--work` trainings are
kept.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from common import bounded, names, write_table
from generate_data import DATA, TEST, TRAIN, Data, decision, reason
from generate_kept import COMPARED, Kept
from generate_rows import ROWS, Made

from burnish.claims import Case, Grounded
from burnish.evaluation.bertscore import bertscore
from burnish.generators.local import Local
from burnish.grounding.lexical import Lexical
from burnish.metrics import Metric
from burnish.metrics.bertscore import Bertscore
from burnish.recipe import Files
from burnish.records import Completion

MAIN = "ROUGE-L"
METRICS = {MAIN: {"kind": "rouge", "variant": "l"}, "METEOR": {"kind": "meteor"}}
FAITHFUL = "faithfulness (lexical)"
DECISION = "yes/no/maybe"
SCORED = (MAIN, "METEOR", "BERTScore", FAITHFUL, DECISION)
FURTHER = ("dpo", "rl")  # trained beyond SFT
HEADINGS = ("data", "system", *SCORED, f"{MAIN} to few-shot", f"{MAIN} to SFT", "seconds", "peak MB")


def answered(made: Made, data: Data) -> tuple[dict[str, Any], list[str]]:
    """Return what a system took, and what it answers to each test row."""
    shots = {"shots": made.shots} if made.shots else {}
    rows = Files.model_validate({**data.files, **shots}).prompted(data.test, Completion)
    prompts: Any = [row.prompt for row in rows]
    began = time.perf_counter()
    texts = Local(model=made.model, max_new_tokens=data.new_tokens).load().write(prompts, done=lambda _: None)
    facts = {
        "seconds": made.seconds,
        "write_seconds": time.perf_counter() - began,
        "peak_mb": made.peak_mb,
        "settings": made.settings,
        "course": made.course,
    }
    return facts, texts


def scored(texts: Sequence[str], data: Data) -> dict[str, list[float]]:
    """Return the score of each text by each metric: its words against the right ones, and whether it decides right."""
    rights = [(row.completion, *row.others) for row in data.test]
    scores = {name: Metric.read(metric).score(texts, rights) for name, metric in METRICS.items()}
    scores["BERTScore"] = bertscore(Bertscore(), texts, rights).scores
    cases = [Case(data.passages[row.id], reason(text)) for text, row in zip(texts, data.test, strict=True)]
    judged = Lexical().load()(cases, progress=lambda *_: None)
    scores[FAITHFUL] = [found.score for found in judged if isinstance(found, Grounded)]  # words alone never fail
    if data.decisions:
        scores[DECISION] = [
            float(decision(text) == data.decisions[row.id]) for text, row in zip(texts, data.test, strict=True)
        ]
    return scores


def table_line(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    scores, versus = row["scores"], row["versus"]
    return [
        row["task"],
        row["label"],
        *(bounded(scores[metric]) if metric in scores else "" for metric in SCORED),
        *(bounded(versus[other][MAIN], "difference") if other in versus else "" for other in COMPARED),
        f"{row['seconds']:.0f} + {row['write_seconds']:.0f}",
        f"{row['peak_mb']:,.0f}" if row["peak_mb"] else "",
    ]


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows into the page's table."""
    note = (
        f"Written by `python benchmarks/generate.py`: {TRAIN} training rows, a fixed sample of {TEST} official test "
        "rows, greedy answers, one seed. Intervals are 95 %, differences paired by row. Seconds: training + writing "
        "all answers, by the clock. yes/no/maybe is the first such word of an answer; none is wrong."
    )
    told = [note, *(words_of(row) for row in rows if row["system"] in FURTHER and "sft" in row["versus"])]
    write_table("generate", "Generation, SmolLM2-135M", HEADINGS, [table_line(row) for row in rows], " ".join(told))


def words_of(row: Mapping[str, Any]) -> str:
    """Return what a training beyond SFT has brought, and how a training by reward went."""
    gain = row["versus"]["sft"][MAIN]
    said = "is above" if gain["low"] > 0 else "is below" if gain["high"] < 0 else "cannot be told from"
    text = f"On {row['task']}, {row['label']} {said} SFT by {MAIN}."
    if not row["course"]:
        return text
    reward, kl = row["course"]["reward"], row["course"]["kl"]
    third = len(reward) // 3
    first, last = fmean(reward[:third]), fmean(reward[-third:])
    return (
        f"{text} Its reward a sampled text went from {first:.3f} in the first third of {len(reward)} steps to "
        f"{last:.3f} in the last, with a KL to the SFT model of at most {max(kl):.3f} nats a token."
    )


def main() -> None:
    """Run the rows that are asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and steps: a check that it runs")
    parser.add_argument("--rows", type=lambda text: names(text, ROWS), default=[*ROWS], help=", ".join(ROWS))
    parser.add_argument("--data", type=lambda text: names(text, DATA), default=[*DATA], help=", ".join(DATA))
    parser.add_argument("--work", type=Path, help="keep trainings here, and go on with what is finished")
    parser.add_argument("--rescore", action="store_true", help="score the answers of earlier runs anew, write no other")
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="burnish-generate-"))) / ("quick" if options.quick else "full")
    kept = Kept(quick=options.quick)
    for name in options.data:
        data = DATA[name](work, quick=options.quick)
        for system in options.rows:
            known = kept.told(name, system, data.test) if options.rescore else None
            if options.rescore and known is None:
                continue
            facts, texts = known or answered(ROWS[system].make(data, work / name), data)
            kept.add(name, system, facts, scored(texts, data), texts, asked=data.test)
            kept.write()
            print(" | ".join(table_line(kept.row(name, system))), flush=True)
            if not options.quick:
                write_page(kept.rows)


if __name__ == "__main__":
    main()
