"""Supervised training of a RAG generator, for benchmarks/speed.py: burnish beside TRL's SFTTrainer."""

from pathlib import Path

import torch
from generate_data import pubmedqa
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
from burnish.records import Completion, dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.tasks.generate import Generate


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write questions with their passages and answers, as benchmarks/generate.py has them."""
    source = asked.get("rows") or pubmedqa(folder, quick=False).files["train"]
    rows = read_jsonl(Path(source), Completion)[: asked["steps"] * asked["batch"]]
    write_text(folder / "rows.jsonl", dump_jsonl(rows))
    task = Generate(max_tokens=asked["tokens"])
    built, model = begun(task, asked["writer"], _method(asked))
    return {
        "rows": str(folder / "rows.jsonl"),
        "rate": _method(asked).learning_rate,
        "order": order_of(task.encode(rows, built).items, asked["batch"]),
        "start": keep_start(model, folder / "factors.safetensors", lambda name: ".lora_" in name),
    }


def _method(asked: Asked) -> Method:
    return Method.read({"kind": "full", "learning_rate": 1e-5} if asked["full"] else {**LORA, "learning_rate": 5e-4})


def _turn(asked: Asked) -> Told:
    rows = read_jsonl(Path(asked["rows"]), Completion)
    if asked["system"].startswith("trl"):
        return _by_trl(asked, rows)
    task, method = Generate(max_tokens=asked["tokens"]), _method(asked)
    built, model = begun(task, asked["writer"], method)
    items = task.encode(rows, built).items
    return fitted(task, built, model, method, items, asked)


def _by_trl(asked: Asked, rows: list[Completion]) -> Told:
    """Train by TRL, on prompts as the model's template renders them, so that both read the same tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    best = asked["system"] == "trl-best"
    network, tokenizer = load_writer(asked["writer"], dtype=torch.float32)
    table = [
        {"prompt": prompt_text(row.prompt, tokenizer), "completion": row.completion + tokenizer.eos_token}
        for row in (rows[place] for place in asked["order"])
    ]
    timed = Clock()
    trainer = SFTTrainer(
        model=network,
        args=SFTConfig(
            **trl_settings(asked),
            **({"gradient_checkpointing": False} if best else {}),
        ),
        train_dataset=Dataset.from_list(table),
        processing_class=tokenizer,
        peft_config=None if asked["full"] else peft_lora(),
        callbacks=[timed],
    )
    begin_alike(trainer.model, asked["start"])
    tokens = by_step([len(row["input_ids"]) for row in trainer.train_dataset], asked["batch"])
    return {**trained_by(trainer, timed), "tokens": tokens}


WORK = Work(
    label="RAG-SFT with LoRA, SmolLM2-135M",
    unit="rows",
    systems={
        **OURS,
        "trl": System("TRL SFTTrainer", "default", "auto"),
        "trl-fp32": System("TRL SFTTrainer", "default, fp32", "fp32"),
        "trl-best": System("TRL SFTTrainer", "activations kept", "bf16"),
    },
    size={"steps": 4, "batch": 8, "tokens": 1024, "full": 0},
    quick={"steps": 2, "batch": 2, "tokens": 1024, "full": 0},
    begin=_begin,
    turn=_turn,
    note="PubMedQA's questions with four passages and their answers; rank 16 on all linear layers.",
    counted=True,
)
