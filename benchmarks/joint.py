"""Retriever and generator together: what each joint loss gains over halves that are trained apart, by answers alone.

python benchmarks/joint.py [--quick] [--rows pdist,loop] [--seeds 3] [--work FOLDER] [--dev] [--memory]
→ benchmarks/results/joint.json, joint-scores.json, joint-memory.json, docs/benchmarks.md

The library's functions as passages, descriptions as questions, names as answers (as `burnish demo`). Every system
begins with `embedded/minilm` and `embedded/smollm2` and has the same questions, steps and batch; no right passage is
told, but to the row that says so. A row that is done is written at once, beside those of earlier runs. With `--work`
trainings are kept. `--dev` scores the dev questions' passages, by which settings are chosen, and writes nothing.
`--memory` measures a step's peak with 2 and with 16 passages a question, alone.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from common import RESULTS, bounded, names, write_table
from joint_kept import ANSWER, COMPARED, RETRIEVAL, SEED, Kept
from joint_rows import AT_ONCE, FULL, GENERATOR, LORA, PROMPT, RETRIEVER, ROWS, TOKENS, Data, Made, trained
from retrieval_corpora import CORPORA, Fold

from burnish.evaluation.measure import measure_answers, measure_retrieval, quadrants
from burnish.evaluation.score import Scores
from burnish.generators.local import Local
from burnish.grounding.lexical import Lexical
from burnish.metrics import Metric
from burnish.prepare.synthesize import sample
from burnish.prompt import PromptFormat
from burnish.recipe import Recipe
from burnish.records import Question, records_fingerprint
from burnish.retrievers import Retriever
from burnish.run import read_json, write_json
from burnish.text import fingerprint

TRAIN, ANSWERED, TOP_K, BATCH = 240, 160, 8, 8
NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"  # the first dotted name of a text is read as its answer, of all systems
KEPT_OF_A_RUN = ("loss", "different passages", "entropy", "kl", "nll", "grad_norm retriever", "grad_norm generator")
HEADINGS = (
    "system",
    "seeds",
    *(heading for metric in (RETRIEVAL, ANSWER) for heading in (metric, f"to {COMPARED[0]}", f"to {COMPARED[1]}")),
    "right passage shown: right / wrong; not shown: right / wrong",
    "different passages shown",
    "seconds",
    "peak MB",
)


def data_of(work: Path, *, quick: bool) -> tuple[Data, Fold, list[Question]]:
    """Return the data of all rows, the corpus it is of, and the questions that are answered."""
    corpus = CORPORA["stdlib"](work / "corpus", quick=quick)
    fold = corpus.whole
    train = [row for row in fold.sides["train"] if row.answers]
    questions = sample(train, 24 if quick else TRAIN, seed=SEED)
    data = Data(work, fold.chunks, questions, fold.sides["test"], top_k=4 if quick else TOP_K, batch=BATCH)
    return data, fold, sample(fold.sides["test"], 12 if quick else ANSWERED, seed=SEED)


def retrieval(made: Made, data: Data, questions: Sequence[Question]) -> tuple[Scores, Any]:
    """Return the scores of the questions' rankings, and what searched."""
    index = data.place / "index"  # by the passages' tower: where it stands still, nothing is encoded twice
    dense = Retriever.read({"kind": "dense", "model": made.retriever, "format": TOKENS})
    searcher = dense.build(data.chunks, cache=index, progress=lambda *_: None)
    found = measure_retrieval(searcher, questions, [Metric.read(RETRIEVAL)])
    return found.scores[RETRIEVAL], searcher


def measured(made: Made, data: Data, asked: Sequence[Question]) -> tuple[dict[str, Scores], dict[str, Any]]:
    """Return a system's scores by metric, and the facts of its row."""
    ranked, searcher = retrieval(made, data, data.test)
    prompt = PromptFormat.model_validate(PROMPT)
    by_id = {chunk.id: chunk for chunk in data.chunks}
    hits = searcher.search([question.question for question in asked], prompt.passages)
    shown = [[by_id[hit.id] for hit in row] for row in hits]
    answers = measure_answers(
        Local(model=made.generator, max_new_tokens=24).load(),
        asked,
        shown,
        [Metric.read("exact_match")],
        prompt=prompt,
        shots=[()] * len(asked),
        pick=NAME,
        grounder=Lexical(),
        progress=lambda *_: None,
    )
    facts = {
        "seconds": made.seconds,
        "peak_mb": made.peak_mb,
        "quadrants": quadrants(answers, asked),
        "different_shown": len({chunk.id for row in shown for chunk in row}),
        "course": {name: [line[name] for line in made.course if name in line] for name in KEPT_OF_A_RUN},
        "settings": made.settings,
    }
    return {RETRIEVAL: ranked, ANSWER: next(iter(answers.scores.values()))}, facts


def table_line(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    cells = [row["label"], str(len(row["seeds"]))]
    for metric in (RETRIEVAL, ANSWER):
        cells.append(bounded(row["scores"][metric]))
        cells += [bounded(row["versus"][o][metric], "difference") if o in row["versus"] else "" for o in COMPARED]
    names = ("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong")
    table = [fmean(found[name] for found in row["quadrants"]) for name in names]
    cells.append("{:.0f} / {:.0f}; {:.0f} / {:.0f}".format(*table))
    cells += [f"{fmean(row['different_shown']):.0f}", f"{row['seconds']:.0f}"]
    return [*cells, f"{row['peak_mb']:,.0f}" if row["peak_mb"] else ""]


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows, and the memory that was measured, into the page's table."""
    note = (
        f"Written by `python benchmarks/joint.py`: {TRAIN} training questions with answers, one epoch of {BATCH} a "
        f"step, {TOP_K} passages compared, all test questions ranked, a fixed sample of {ANSWERED} answered with three "
        "passages. Scores are means over seeds; intervals are 95 %, over modules; differences are paired. "
        f"`{COMPARED[0]}` is both halves off the shelf, `{COMPARED[1]}` the generator trained alone. A step holds the "
        f"activations of {AT_ONCE['pass_tokens']:,} tokens."
    )
    memory = RESULTS / "joint-memory.json"
    if memory.is_file():
        told = read_json(memory)["rows"]
        peaks = ", ".join(f"{row['peak_mb']:,.0f} MB with {row['top_k']}" for row in told)
        note += f" Peak memory of `rag_sequence`, both halves learning, by passages a question: {peaks}."
    write_table("joint", "Retriever and generator together", HEADINGS, [table_line(row) for row in rows], note)


def memory(data: Data) -> list[dict[str, Any]]:
    """Return the peak of a training in which both halves learn from every passage, by the passages of a question."""
    rows = []
    for top_k in (2, 16):
        task = {"kind": "rag", "passages": str(data.beir), "retriever": RETRIEVER, "retriever_method": FULL}
        recipe = Recipe.model_validate(
            {
                "task": {**task, "loss": "rag_sequence", "top_k": top_k, **TOKENS},
                "model": GENERATOR,
                "method": LORA,
                "data": {"train": str(data.questions())},
                "training": {"epochs": 2 * BATCH / len(data.train), "batch": BATCH, "evaluations": 0},
            }
        )
        rows.append({"top_k": top_k, "peak_mb": read_json(trained(recipe, data) / "cost.json")["peak_mb"]})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run the rows that are asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few questions and steps: a check that it runs")
    parser.add_argument("--rows", type=lambda text: names(text, ROWS), default=[*ROWS], help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 2; one for --quick")
    parser.add_argument("--work", type=Path, help="keep trainings here, and go on with what is finished")
    parser.add_argument("--dev", action="store_true", help="score the dev questions' passages, and write nothing")
    parser.add_argument("--memory", action="store_true", help="measure peak memory alone")
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="burnish-joint-"))) / ("quick" if options.quick else "full")
    data, fold, asked = data_of(work, quick=options.quick)
    kept = Kept(quick=options.quick)
    if options.memory:
        path = RESULTS / f"joint-memory{'-quick' if options.quick else ''}.json"
        write_json(path, {"rows": memory(data), "command": "python benchmarks/joint.py --memory"})
        options.rows = []
    stamp = fingerprint(records_fingerprint(data.chunks), *map(records_fingerprint, (data.train, data.test, asked)))
    for system in options.rows:
        seeds = (options.seeds or ([0] if options.quick else [0, 1, 2])) if ROWS[system].seeded else [0]
        for seed in seeds:
            made = ROWS[system].make(data, seed)
            if options.dev:
                found = retrieval(made, data, fold.sides["dev"])[0]
                print(f"{system} seed {seed}: dev {RETRIEVAL} {fmean(found.values):.4f}", flush=True)
                continue
            kept.add(system, seed, *measured(made, data, asked), stamp)
            kept.write()
            print(" | ".join(table_line(kept.row(system))), flush=True)
    if not options.quick and not options.dev:
        write_page(kept.rows)


if __name__ == "__main__":
    main()
