"""Preference training by one system, in a process of its own, for benchmarks/speed.py.

python benchmarks/speed_dpo.py ASKED.json   → the file that ASKED.json names
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from mining import peak_mb
from safetensors.torch import load_file

from burnish.cache import cache_folder
from burnish.methods import Method
from burnish.models import embedded
from burnish.models.load import load_writer
from burnish.models.precision import chosen_dtype
from burnish.models.render import prompt_text
from burnish.models.start import rounded
from burnish.preference_rows import Preference
from burnish.records import read_jsonl
from burnish.run import write_json
from burnish.tasks import Built
from burnish.tasks.prefer import Prefer
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.settings import Training

MODEL = "embedded/smollm2"
clock = time.perf_counter if torch.accelerator.is_available() else time.process_time  # of a core that others use too
RANK, ALPHA = 16, 32


def main() -> None:
    """Train, and tell the seconds of the steps, those before them, the tokens, the losses and the peak memory."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = read_jsonl(Path(asked["rows"]), Preference)
    found = ours(asked, rows) if asked["system"] == "burnish" else theirs(asked, rows)
    write_json(Path(asked["told"]), {**found, "peak_mb": peak_mb()})


def begun(task: Prefer, name: str) -> tuple[Method, Built, Any]:
    """Return the method and the model that both systems begin with."""
    method: Method = Method.read({"kind": "lora", "rank": RANK, "alpha": ALPHA} if name == "lora" else name)
    torch.manual_seed(0)
    built = task.build(MODEL)
    return method, built, method.apply(built.model, fresh=built.fresh)


def ours(asked: dict[str, Any], rows: list[Preference]) -> dict[str, Any]:
    """Train by burnish's loop."""
    task = Prefer(max_tokens=asked["tokens"])
    method, built, model = begun(task, asked["method"])
    items = task.encode(rows, built).items
    losses: list[float] = []
    moments: list[float] = []

    def log(name: str, line: Any) -> None:
        if name == "log.jsonl":
            losses.append(line["loss"])
        if name == "clock.jsonl":
            moments.append(clock())

    began = clock()
    with rounded(model, chosen_dtype(asked["dtype"])):
        task.prepare(model, items, cache=cache_folder(), progress=lambda *_: None)
    before = clock() - began
    training = Training(
        epochs=1,
        batch=asked["batch"],
        learning_rate=asked["rate"],
        precision=asked["dtype"],
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        evaluations=0,
        checkpoint_every=0,
    )
    course = Course(
        task=task,
        items=items,
        training=training,
        method=method,
        fresh=built.fresh,
        seed=0,
        data="rows",
        log=log,
        checkpoints=Checkpoints(Path(asked["told"]).parent / "checkpoints", print),
        rewind=lambda _: None,
    )
    moments.append(clock())
    fit(model, course)
    tokens = [2 * len(item.prompt) + sum(map(len, item.answers)) for item in items]
    return {
        "seconds": [end - start for start, end in pairwise(moments)],
        "before": before,
        "tokens": by_step([tokens[place] for place in asked["order"]], asked["batch"]),
        "losses": losses,
    }


def by_step(tokens: list[int], batch: int) -> list[int]:
    """Return the tokens of each step; tokens: of each row, in the order in which they are read."""
    return [sum(tokens[first : first + batch]) for first in range(0, len(tokens), batch)]


def _settings(asked: dict[str, Any]) -> Any:
    """Return TRL's settings: as it comes, or the best that were found."""
    from trl import DPOConfig

    best = asked["system"] == "trl-best"
    return DPOConfig(
        output_dir=str(Path(asked["told"]).parent / "trl"),
        num_train_epochs=1,
        per_device_train_batch_size=asked["batch"],
        learning_rate=asked["rate"],
        lr_scheduler_type="constant",
        max_length=asked["tokens"],
        bf16=asked["dtype"] == "bf16",
        beta=0.1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
        use_cpu=not torch.accelerator.is_available(),
        train_sampling_strategy="sequential",
        **({"precompute_ref_log_probs": True, "gradient_checkpointing": False} if best else {}),
    )


def reference_seconds(trainer: Any) -> list[float]:
    """Return a list to which this class of trainers will add how long it reads the reference before the first step."""
    found: list[float] = []
    precompute = trainer._precompute_ref_logps

    def timed(*given: Any, **named: Any) -> Any:
        began = clock()
        table = precompute(*given, **named)
        found.append(clock() - began)
        return table

    trainer._precompute_ref_logps = timed
    return found


def theirs(asked: dict[str, Any], rows: list[Preference]) -> dict[str, Any]:
    """Train by TRL, on prompts as the model's template renders them, so that both read the same tokens."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DPOTrainer

    folder = str(embedded.folder(MODEL))
    network, tokenizer = load_writer(MODEL, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear")
    table = [
        {
            "prompt": prompt_text(row.prompt, tokenizer),
            "chosen": row.chosen + tokenizer.eos_token,
            "rejected": row.rejected + tokenizer.eos_token,
        }
        for row in (rows[place] for place in asked["order"])
    ]
    seconds: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(clock() - self.began)

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **__: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    before = reference_seconds(DPOTrainer)
    trainer = DPOTrainer(
        model=folder if asked["method"] == "full" else network,
        args=_settings(asked),
        train_dataset=Dataset.from_list(table),
        processing_class=tokenizer,
        peft_config=lora if asked["method"] == "lora" else None,
        callbacks=[Clock()],
    )
    if asked["method"] == "lora":  # the factors are drawn at random, and are to be the same ones
        weights = load_file(asked["factors"])
        lacking = trainer.model.load_state_dict(weights, strict=False)
        assert not lacking.unexpected_keys, lacking.unexpected_keys[:3]
    trainer.train()
    tokens = [
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in trainer.train_dataset
    ]
    return {
        "seconds": seconds,
        "before": sum(before),
        "tokens": by_step(tokens, asked["batch"]),
        "losses": losses,
    }


if __name__ == "__main__":
    main()
