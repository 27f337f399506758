"""Preference training, for benchmarks/speed.py: burnish beside TRL's DPOTrainer."""

from pathlib import Path
from typing import Any

import torch
from common import data_folder
from speed_work import (
    LORA,
    OURS,
    Asked,
    Clock,
    System,
    Told,
    Work,
    begin_alike,
    begun,
    by_step,
    clock,
    fitted,
    keep_start,
    order_of,
    peft_lora,
    trained_by,
    trl_settings,
)

from burnish.methods import Method
from burnish.models.load import load_writer
from burnish.models.render import prompt_text
from burnish.preference_rows import Preference
from burnish.records import dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.tables import read_rows
from burnish.tasks.prefer import Prefer


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write the first preferences that are surely not cut: a token is 2.5 characters or more, nearly always."""
    found = read_rows(asked.get("rows") or data_folder("preferences") / "dpo_en_demo.json", Preference)
    short = [row for row in found if _characters(row) < 2.5 * asked["tokens"]][: asked["steps"] * asked["batch"]]
    write_text(folder / "rows.jsonl", dump_jsonl(short))
    task = Prefer(max_tokens=asked["tokens"])
    built, model = begun(task, asked["writer"], Method.read(LORA))
    return {
        "rows": str(folder / "rows.jsonl"),
        "rate": 1e-4,
        "order": order_of(task.encode(short, built).items, asked["batch"]),
        "start": keep_start(model, folder / "factors.safetensors", lambda name: ".lora_" in name),
    }


def _characters(row: Preference) -> int:
    prompt = row.prompt if isinstance(row.prompt, str) else "".join(message.content for message in row.prompt)
    return len(prompt) + max(len(row.chosen), len(row.rejected))


def _turn(asked: Asked) -> Told:
    rows = read_jsonl(Path(asked["rows"]), Preference)
    if asked["system"].startswith("trl"):
        return _by_trl(asked, rows)
    task, method = Prefer(max_tokens=asked["tokens"]), Method.read(LORA)
    built, model = begun(task, asked["writer"], method)
    items = task.encode(rows, built).items
    told = fitted(task, built, model, method, items, asked)
    tokens = [2 * len(item.prompt) + sum(map(len, item.answers)) for item in items]
    return {**told, "tokens": by_step([tokens[place] for place in asked["order"]], asked["batch"])}


def _by_trl(asked: Asked, rows: list[Preference]) -> Told:
    """Train by TRL, on prompts as the model's template renders them, so that both read the same tokens."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    network, tokenizer = load_writer(asked["writer"], dtype=torch.float32)
    table = [
        {
            "prompt": prompt_text(row.prompt, tokenizer),
            "chosen": row.chosen + tokenizer.eos_token,
            "rejected": row.rejected + tokenizer.eos_token,
        }
        for row in (rows[place] for place in asked["order"])
    ]
    best = asked["system"] == "trl-best"
    before = _reference_seconds(DPOTrainer)
    timed = Clock()
    trainer = DPOTrainer(
        model=network,
        args=DPOConfig(
            **trl_settings(asked),
            beta=0.1,
            **({"precompute_ref_log_probs": True, "gradient_checkpointing": False} if best else {}),
        ),
        train_dataset=Dataset.from_list(table),
        processing_class=tokenizer,
        peft_config=peft_lora(),
        callbacks=[timed],
    )
    begin_alike(trainer.model, asked["start"])
    tokens = [
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in trainer.train_dataset
    ]
    told = trained_by(trainer, timed)
    return {**told, "before": sum(before), "tokens": by_step(tokens, asked["batch"])}


def _reference_seconds(trainer: Any) -> list[float]:
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


WORK = Work(
    label="DPO with LoRA, SmolLM2-135M",
    unit="pairs",
    systems={
        **OURS,
        "trl": System("TRL DPOTrainer", "default", "auto"),
        "trl-fp32": System("TRL DPOTrainer", "default, fp32", "fp32"),
        "trl-best": System("TRL DPOTrainer", "reference read before, activations kept", "bf16"),
    },
    size={"steps": 4, "batch": 4, "tokens": 512},
    quick={"steps": 2, "batch": 2, "tokens": 384},
    begin=_begin,
    turn=_turn,
    note="β .1, rank 16 on all linear layers; a prompt's tokens count twice, whether they are read twice or once.",
)
