"""The rows of benchmarks/generate.py: how each system comes to answer. No setting was chosen by test rows."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generate_data import SEED, Data

from burnish.models.save import whole_generator
from burnish.prepare.synthesize import sample
from burnish.recipe import Recipe
from burnish.records import Completion, Prompt, dump_jsonl, read_jsonl
from burnish.run import Run, read_json, write_json, write_text
from burnish.steps.apart import resume_apart, train_apart
from burnish.steps.preferences import preferences
from burnish.steps.preferences_recipe import Preferences

MODEL = "embedded/smollm2"
SHOTS = 2
COURSE = ("reward", "kl", "length", "entropy", "spread", "flat")  # of a training by reward, step by step
ROUGE = {"kind": "rouge", "variant": "l"}
LORA = {"kind": "lora", "rank": 16, "alpha": 32, "learning_rate": 5.0e-4}


@dataclass(frozen=True)
class Made:
    """What writes the answers: a model, and how many examples its prompts show; and what it took to make it.

    seconds: of training, and of all that was made for it. peak_mb: of the training. course: what a training by reward
    logged of each step.
    """

    model: str
    shots: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    settings: Mapping[str, Any] | None = None
    course: Mapping[str, Sequence[float]] | None = None


@dataclass(frozen=True)
class Row:
    """A system: what it is called, and how it is made in a folder."""

    label: str
    make: Callable[[Data, Path], Made]


def _sft(data: Data, work: Path) -> Made:
    return _trained(
        work / "sft",
        {
            "task": {"kind": "generate", "max_tokens": 768},
            "model": MODEL,
            "method": LORA,
            "data": {side: data.files[side] for side in ("train", "dev")},
            "training": {"epochs": 1, "batch": 8, "micro_tokens": 4096, "evaluations": 1, "schedule": "cosine"},
            "seed": SEED,
        },
    )


def _preferred(data: Data, work: Path) -> Made:
    """Go on from the SFT model with DPO, on pairs of its own answers: the best against the worst, by ROUGE-L."""
    start = _merged(_sft(data, work), work)
    writer = {"kind": "local", "model": start, "temperature": 1.0, "max_new_tokens": data.new_tokens}
    recipe = Preferences.model_validate(
        {
            "rows": data.files["train"],
            "writer": writer,
            "answers": 4,
            "by": [{"kind": "metric", "metric": ROUGE}],
            "gap": 0.05,
            "limit": 6 if data.quick else 48,
            "seed": SEED,
        }
    )
    told = work / "pairs.preferences.json"
    if not told.is_file():
        preferences(recipe, work / "pairs.jsonl", say=print, progress=lambda *_: None)
    made = _trained(
        work / "dpo",
        {
            "task": {"kind": "prefer", "loss": {"kind": "dpo", "beta": 0.1}, "max_tokens": 768},
            "model": start,
            "method": {**LORA, "learning_rate": 1.0e-4},
            "data": {"train": str(work / "pairs.jsonl")},
            "training": {"epochs": 1, "batch": 8, "micro_tokens": 4096, "schedule": "cosine", "dropout": 0.0},
            "seed": SEED,
        },
    )
    return replace(made, seconds=made.seconds + read_json(told)["seconds"])


def _reinforced(data: Data, work: Path) -> Made:
    """Go on from the SFT model with RLOO; the reward is checked against the right answers, by words and by form."""
    start = _merged(_sft(data, work), work)
    table = work / "prompts.jsonl"
    rows = sample(read_jsonl(Path(data.files["train"]), Completion), 4 if data.quick else 60, seed=SEED)
    prompts = [Prompt(id=row.id, prompt=row.prompt, answers=(row.completion, *row.others)) for row in rows]
    write_text(table, dump_jsonl(prompts))
    form = [{"kind": "pattern", "pattern": "(?s)(Yes|No|Maybe)\\. .+", "weight": 0.2}] if data.decisions else []
    made = _trained(
        work / "rl",
        {
            "task": {
                "kind": "reinforce",
                "rewards": [{"kind": "metric", "metric": ROUGE}, *form],
                "advantage": "rloo",
                "samples": 8,
                "max_tokens": 768,
                "max_new_tokens": data.new_tokens,
            },
            "model": start,
            "method": {**LORA, "learning_rate": 3.0e-4},
            "data": {"train": str(table)},
            "training": {"epochs": 1, "batch": 2, "micro_tokens": 4096, "schedule": "constant", "dropout": 0.0},
            "seed": SEED,
        },
    )
    lines = [*Run.open(work / "rl").lines("log.jsonl")]
    return replace(made, course={name: [line[name] for line in lines] for name in COURSE})


def _merged(made: Made, work: Path) -> str:
    """Return the model with its adapter merged into it, as a folder that further training starts from."""
    return whole_generator(made.model, work / "merged")


def _trained(run: Path, settings: dict[str, Any]) -> Made:
    """Train, go on with what was stopped, or take what is finished."""
    recipe = Recipe.model_validate(settings)
    cost = run / "cost.json"
    if not cost.is_file():
        began = time.perf_counter()
        quiet: Any = lambda *_: None  # noqa: E731
        started = (run / "manifest.json").is_file()
        peak = resume_apart(run, say=print, progress=quiet) if started else _begin(recipe, run)
        write_json(cost, {"peak_mb": peak, "wall": time.perf_counter() - began})
    seconds = sum(line["seconds"] for line in Run.open(run).lines("clock.jsonl"))
    told = recipe.model_dump(mode="json", exclude={"data"})
    if recipe.model != MODEL:  # a folder of this run
        told["model"] = "the SFT row, merged"
    return Made(str(run / "model"), seconds=seconds, peak_mb=read_json(cost)["peak_mb"], settings=told)


def _begin(recipe: Recipe, run: Path) -> float:
    return train_apart(recipe, run, say=print, progress=lambda *_: None, before=False)


ROWS = {
    "zero": Row("zero-shot", lambda *_: Made(MODEL)),
    "few": Row(f"few-shot ({SHOTS} examples)", lambda *_: Made(MODEL, shots=SHOTS)),
    "sft": Row("SFT (LoRA)", _sft),
    "dpo": Row("SFT + DPO", _preferred),
    "rl": Row("SFT + RLOO", _reinforced),
}
