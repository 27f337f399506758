"""The rows of benchmarks/joint.py: how each pair of a retriever and a generator is made.

No row sees which passage is right for a training question, but the one that says so.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.prepare.beir import write_beir
from burnish.prepare.judged import training_pairs
from burnish.recipe import Recipe, to_yaml
from burnish.records import Chunk, Question, dump_jsonl
from burnish.run import Run, read_json, write_json, write_text
from burnish.steps.apart import train_apart
from burnish.text import fingerprint

RETRIEVER, GENERATOR = "embedded/minilm", "embedded/smollm2"
# As `burnish demo` asks: a passage's title is the answer, its text tells of the signature.
PROMPT = {
    "instruction": "Find the function that fits the description. Reply with its full dotted name alone.",
    "bare_instruction": "Name the function that fits the description. Reply with its full dotted name alone.",
    "ask": "Which function of the standard library does this: {question}",
    "question_first": True,
    "passages": 3,
    "passage_words": 8,
}
LORA = {"kind": "lora", "rank": 8, "alpha": 16, "learning_rate": 5.0e-4}
FULL = {"kind": "full", "learning_rate": 3.0e-5}
TOKENS = {"query_tokens": 128, "passage_tokens": 128}
AT_ONCE = {"pass_tokens": 8192}  # a step as one pass, which is not computed twice


@dataclass(frozen=True)
class Data:
    """The questions and passages of one run. place: a folder for what is made of them. batch: questions a step."""

    place: Path
    chunks: Sequence[Chunk]
    train: Sequence[Question]
    test: Sequence[Question]
    top_k: int
    batch: int

    @property
    def beir(self) -> Path:
        """The passages, with the training questions' judgements for the row that may see them."""
        folder = self.place / "data"
        if not folder.is_dir():
            write_beir(folder, self.chunks, {"train": self.train})
        return folder

    def questions(self) -> Path:
        """Return the training questions with their answers alone."""
        path = self.place / "questions.jsonl"
        if not path.is_file():
            write_text(path, dump_jsonl([row.model_copy(update={"gold": (), "grades": ()}) for row in self.train]))
        return path


@dataclass(frozen=True)
class Made:
    """Both halves, and what it took: seconds, peak memory, and what the run's log told, step by step."""

    retriever: str = RETRIEVER
    generator: str = GENERATOR
    seconds: float = 0.0
    peak_mb: float = 0.0
    course: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Row:
    """A system: what it is called, and how it is made with a seed; seeded: whether a seed changes it."""

    label: str
    make: Callable[[Data, int], Made]
    seeded: bool = True


def _rag(task: Mapping[str, Any], data: Data, seed: int, **training: Any) -> Made:
    """Train with the task `rag`, from both halves as they are off the shelf."""
    named = {"kind": "rag", "passages": str(data.beir), "retriever": RETRIEVER, "retriever_method": FULL}
    recipe = Recipe.model_validate(
        {
            "task": {**named, "top_k": data.top_k, "prompt": PROMPT, **TOKENS, **AT_ONCE, **task},
            "model": GENERATOR,
            "method": LORA,
            "data": {"train": str(data.questions())},
            "training": {"epochs": 1, "batch": data.batch, "evaluations": 0, "checkpoint_every": 0, **training},
            "seed": seed,
        }
    )
    place = trained(recipe, data)
    model = place / "model"
    return Made(str(model / "retriever"), str(model / "generator"), **told(place, recipe))


def _by_labels(data: Data, seed: int) -> Made:
    """Train the retriever on the same questions with their right passages, and then the generator by what it finds."""
    labelled = data.place / "labelled.jsonl"
    if not labelled.is_file():
        rows = training_pairs(data.beir)
        write_text(labelled, dump_jsonl([row for row in rows if any(text.strip() for text in row.positives)]))
    recipe = Recipe.model_validate(
        {
            "task": {"kind": "retrieve", "loss": {"kind": "contrastive", "temperature": 0.05}, **TOKENS},
            "model": RETRIEVER,
            "method": FULL,
            "data": {"train": str(labelled)},
            "training": {"epochs": 1, "batch": data.batch, "dropout": 0.0, "evaluations": 0, "checkpoint_every": 0},
            "seed": seed,
        }
    )
    first = trained(recipe, data)
    retriever = str(first / "model")
    second = _rag({"trains": "generator", "retriever": retriever}, data, seed)
    spent = told(first, recipe)
    return Made(
        retriever,
        second.generator,
        spent["seconds"] + second.seconds,
        max(spent["peak_mb"], second.peak_mb),
        second.course,
        second.settings,
    )


def trained(recipe: Recipe, data: Data) -> Path:
    """Train in a process of its own, or find what the same recipe has trained; return the run's folder."""
    place = data.place / f"{recipe.task.kind}-{fingerprint(to_yaml(recipe))}"
    if not (place / "cost.json").is_file():
        shutil.rmtree(place, ignore_errors=True)  # of a training that was stopped
        peak = train_apart(recipe, place, say=lambda _: None, progress=lambda *_: None)
        write_json(place / "cost.json", {"peak_mb": peak})
    return place


def told(place: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what a training took and logged."""
    run = Run.open(place)
    shown = recipe.model_dump(mode="json", include={"task", "method", "training", "seed"})
    shown["task"] = {key: value for key, value in shown["task"].items() if key not in ("passages", "retriever")}
    return {
        "seconds": sum(line["seconds"] for line in run.lines("clock.jsonl")),
        "peak_mb": read_json(place / "cost.json")["peak_mb"],
        "course": [*run.lines("log.jsonl")],
        "settings": shown,
    }


def _loss(**task: Any) -> Callable[[Data, int], Made]:
    return lambda data, seed: _rag(task, data, seed)


ROWS: dict[str, Row] = {
    "start": Row("both off the shelf", lambda data, seed: Made(), seeded=False),  # noqa: ARG005
    "generator": Row("generator alone (separate halves)", _loss(trains="generator")),
    "retriever": Row("retriever alone, from answers: pdist", _loss(trains="retriever")),
    "pdist": Row("joint: pdist", _loss(loss="pdist")),
    "pdist_reverse": Row("joint: pdist, reverse", _loss(loss={"kind": "pdist", "direction": "reverse"})),
    "replug": Row("joint: replug", _loss(loss="replug")),
    "emdr2": Row("joint: emdr2", _loss(loss="emdr2")),
    "loop": Row("joint: loop", _loss(loss="loop")),
    "adist": Row("joint: adist", _loss(loss="adist")),
    # Answers are asked with three passages in one prompt, and these two losses show the generator one at a time.
    "rag_sequence": Row("joint: rag_sequence, and all in one prompt", _loss(loss="rag_sequence", generator_weight=1.0)),
    "rag_token": Row("joint: rag_token, and all in one prompt", _loss(loss="rag_token", generator_weight=1.0)),
    "ra_dit": Row(
        "joint: RA-DIT (generator first)",
        _loss(loss={"kind": "pdist", "direction": "reverse"}, schedule="generator_first", generator_reads="each"),
    ),
    "labelled": Row("retriever by labels, then generator", _by_labels),
}
