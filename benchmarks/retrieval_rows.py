"""The rows of benchmarks/retrieval.py: how each system is made, on one fold of a corpus.

Settings are chosen on dev questions (`--dev`), never on test questions.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from retrieval_corpora import SEED, Fold, Setting

from burnish.models.cross import CrossEncoder
from burnish.models.towers import load_bi_encoder
from burnish.prepare.crops import Crops
from burnish.prepare.judged import training_pairs
from burnish.prepare.scores import Scorer
from burnish.prepare.teach import BiEncoderScorer, teacher_scores
from burnish.recipe import Recipe, to_yaml
from burnish.records import Pair, dump_jsonl, read_jsonl, records_fingerprint
from burnish.retrievers import Retriever
from burnish.run import Run, read_json, write_json, write_text
from burnish.steps.apart import train_apart
from burnish.steps.fingerprints import model_fingerprint
from burnish.steps.mine import mine
from burnish.steps.mine_recipe import Mine
from burnish.steps.synthesize import crops
from burnish.text import TextFormat, fingerprint
from burnish.train.batches import step_count

MODEL = "embedded/minilm"
IN_BATCH = {"kind": "contrastive", "temperature": 0.05}
# By dev questions of the library: .517 before, .502 with the cross-encoder's scores alone, .581 with half of each.
RERANKED = {"depth": 50, "weight": 0.5}
RULES = {"per_question": 7, "contains_answer": False}  # the library's answers are names, which its passages mention
TEACHERS = {"stdlib": "mined", "cranfield": "mined"}  # by corpus; a cross-encoder alone ranks below them


@dataclass(frozen=True)
class Rows:
    """Training rows, and the seconds that it took to make them from the labels or the passages."""

    pairs: Sequence[Pair]
    seconds: float = 0.0


@dataclass(frozen=True)
class Made:
    """A system on one fold, and what it cost: seconds of making its rows and of training, and the latter's memory.

    settings: what it was trained by. encode: seconds of encoding the passages, where a peer tells them.
    """

    retriever: Retriever
    settings: Mapping[str, Any] | None = None
    model: Path | None = None
    data: float = 0.0
    train: float = 0.0
    peak_mb: float = 0.0
    encode: float | None = None


@dataclass(frozen=True)
class Row:
    """A system: what it is called, how it is made, and whether it learns from labels, and so needs a model a fold."""

    label: str
    make: Callable[[Fold], Made]
    labels: bool = True


def _untrained(retriever: Callable[[Setting], Any], fold: Fold) -> Made:
    return Made(Retriever.read(retriever(fold.setting)))


def _dense(setting: Setting, model: str = MODEL) -> dict[str, Any]:
    return {"kind": "dense", "model": model, "format": _lengths(setting)}


def _hybrid(setting: Setting) -> dict[str, Any]:
    return {"kind": "hybrid", "of": ["bm25", _dense(setting)]}


def _lengths(setting: Setting) -> dict[str, int]:
    return {"query_tokens": setting.tokens, "passage_tokens": setting.tokens}


def _peer(fold: Fold) -> Made:
    """Train with sentence-transformers; its model is searched and scored as ours are."""
    setting, place, plain = fold.setting, fold.place / "st", TextFormat()
    asked = {
        "model": MODEL,
        "rows": str(_written(fold, _labelled(fold).pairs)),
        "passages": str(place / "passages.json"),
        "steps": setting.steps,
        "batch": setting.batch,
        "rate": setting.rate,
        "tokens": setting.tokens,
        "seed": SEED,
    }
    if not (place / "told.json").is_file() or read_json(place / "asked.json") != asked:
        (place / "told.json").unlink(missing_ok=True)
        write_json(place / "asked.json", asked)
        write_text(
            place / "passages.json", json.dumps([plain.passage(chunk.title, chunk.text) for chunk in fold.chunks])
        )
        script = Path(__file__).with_name("retrieval_peer.py")
        command = [sys.executable, str(script), str(place / "asked.json")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{script.name} failed; it needs `pip install 'sentence-transformers[train]'`\n{done.stderr}")
    shown = {key: value for key, value in asked.items() if key not in ("rows", "passages")}
    shown["version"] = version("sentence-transformers")
    retriever = Retriever.read(_dense(setting, str(place / "model")))
    return Made(retriever, shown, place / "model", **read_json(place / "told.json"))


def _bi_encoder(rows: Callable[[Fold], Rows], task: Mapping[str, Any], fold: Fold) -> Made:
    """Train a model of the task `retrieve` or `late`, and search by it alone."""
    kind = "late" if task["kind"] == "late" else "dense"
    return _trained(fold, rows(fold), {**task, **_lengths(fold.setting)}, {"kind": kind}, fold.setting)


def _reranker(fold: Fold) -> Made:
    """Train a cross-encoder, and put it behind the hybrid off the shelf.

    It reads four pairs a row, and so has half the rows a step: one step costs as much as two of a bi-encoder.
    """
    setting = replace(fold.setting, batch=fold.setting.batch // 2)
    task = {"kind": "rerank", "loss": "listwise", "max_tokens": setting.tokens}
    behind = {"kind": "reranked", "of": _hybrid(setting), **RERANKED}
    return _trained(fold, _mined(3, fold), task, behind, setting)


def _trained(fold: Fold, rows: Rows, task: Mapping[str, Any], retriever: Mapping[str, Any], setting: Setting) -> Made:
    """Train in a process of its own for as many steps as all have, or read back what the same recipe trained."""
    epochs = setting.steps / step_count(len(rows.pairs), batch=setting.batch, epochs=1)
    training = {"epochs": epochs, "batch": setting.batch, "learning_rate": setting.rate, "dropout": 0.0}
    recipe = Recipe.model_validate(
        {
            "task": task,
            "model": MODEL,
            "data": {"train": str(_written(fold, rows.pairs))},
            "training": {**training, "evaluations": 0, "checkpoint_every": 0},
            "seed": SEED,
        }
    )
    place = fold.place / f"{task['kind']}-{fingerprint(to_yaml(recipe))}"
    if not (place / "cost.json").is_file():
        shutil.rmtree(place, ignore_errors=True)  # of a training that was stopped
        peak = train_apart(recipe, place, say=lambda _: None, progress=lambda *_: None)
        clock = sum(line["seconds"] for line in Run.open(place).lines("clock.jsonl"))
        write_json(place / "cost.json", {"train": clock, "peak_mb": peak})
    model = place / "model"
    made = Retriever.read({**retriever, "model": str(model)})
    shown = recipe.model_dump(mode="json", include={"task", "model", "method", "training", "seed"})
    return Made(made, shown, model, data=rows.seconds, **read_json(place / "cost.json"))


def _labelled(fold: Fold) -> Rows:
    """Return a row for each question and each of its right passages, as losses with one positive have them."""
    return Rows(_one_right_each(training_pairs(fold.data), negatives=0))


def _mined(negatives: int, fold: Fold) -> Rows:
    """Return these rows with so many hard negatives each, mined once for all that ask."""
    out = fold.place / "mined.jsonl"
    data = {"kind": "beir", "path": str(fold.data), "split": "train"}
    retrievers = ["bm25", _dense(fold.setting)]
    recipe = Mine.model_validate({"data": data, "retrievers": retrievers, "rules": RULES, "seed": SEED})
    told = out.with_suffix(".mined.json")
    if not told.is_file() or read_json(told)["settings"] != recipe.model_dump(mode="json", exclude={"rounds"}):
        mine(recipe, out, say=lambda _: None, progress=lambda *_: None)
        shutil.rmtree(out.with_suffix(".mining"))
    return Rows(_one_right_each(read_jsonl(out, Pair), negatives=negatives), read_json(told)["seconds"])


def _cropped(fold: Fold) -> Rows:
    """Return pairs of pieces of passages, of which no label is used."""
    table = fold.place / "crops.jsonl"
    if not table.is_file():
        crops(fold.data, table, settings=Crops(), seed=SEED, say=lambda _: None)
    return Rows(read_jsonl(table, Pair))


def _taught(fold: Fold) -> Rows:
    """Return rows with hard negatives and the scores that the teacher gives their passages."""
    rows = _mined(4, fold)
    model = ROWS[TEACHERS[fold.corpus]].make(fold).model
    assert model is not None, "a teacher is trained"
    cache = fold.place / "scores" / model_fingerprint(str(model))
    began = time.perf_counter()
    compared = [row for row in rows.pairs if row.negatives]  # a passage alone has no distribution
    told = teacher_scores(compared, _scorer(TEACHERS[fold.corpus], model), cache=cache)
    if not (cache / "seconds.json").is_file():  # a second time all scores are there
        write_json(cache / "seconds.json", time.perf_counter() - began)
    return Rows(told, rows.seconds + read_json(cache / "seconds.json"))


def _scorer(teacher: str, model: Path) -> Scorer:
    if teacher == "rerank":
        return CrossEncoder.load(str(model))
    return BiEncoderScorer(load_bi_encoder(str(model), dtype=torch.float32))


def _distilled(fold: Fold) -> Made:
    """Train a student by labels and the teacher's distribution over each row's passages, at our temperature."""
    sharp = 1.0 if TEACHERS[fold.corpus] == "rerank" else IN_BATCH["temperature"]
    loss = {"kind": "distill", "temperature": 0.05, "teacher_temperature": sharp, "labels": 1.0}
    return _bi_encoder(_taught, {"kind": "retrieve", "loss": loss}, fold)


def _one_right_each(rows: Sequence[Pair], *, negatives: int) -> list[Pair]:
    """Return a row for each right passage that has words, with the first negatives of its query."""
    return [
        Pair(
            id=f"{row.id}#{place}",
            group=row.group,
            query=row.query,
            positives=(text,),
            negatives=row.negatives[:negatives],
        )
        for row in rows
        for place, text in enumerate(row.positives)
        if text.strip()
    ]


def _written(fold: Fold, rows: Sequence[Pair]) -> Path:
    """Write training rows into a file that is named by them."""
    path = fold.place / "rows" / f"{records_fingerprint(rows)[:16]}.jsonl"
    if not path.is_file():
        write_text(path, dump_jsonl(rows))
    return path


_PLAIN = {"kind": "retrieve", "loss": IN_BATCH}
_MASKED = {"kind": "retrieve", "loss": {**IN_BATCH, "false_negatives": 0.1}}

ROWS: dict[str, Row] = {
    "bm25": Row("BM25", partial(_untrained, lambda _: "bm25"), labels=False),
    "base": Row("dense, off the shelf", partial(_untrained, _dense), labels=False),
    "hybrid": Row("hybrid, off the shelf", partial(_untrained, _hybrid), labels=False),
    "st": Row("dense, trained by sentence-transformers", _peer),
    "plain": Row("dense, in-batch", partial(_bi_encoder, _labelled, _PLAIN)),
    "mined": Row(
        "dense, hard negatives and masks",
        partial(_bi_encoder, partial(_mined, 3), _MASKED),
    ),
    "towers": Row("two towers", partial(_bi_encoder, _labelled, {**_PLAIN, "two_towers": True})),
    "late": Row("late interaction", partial(_bi_encoder, _labelled, {"kind": "late", "width": None})),
    "crops": Row(
        "dense, crops without labels",
        partial(_bi_encoder, _cropped, _PLAIN),
        labels=False,
    ),
    "rerank": Row("re-ranker behind the hybrid", _reranker),
    "distilled": Row("dense, distilled", _distilled),
}
