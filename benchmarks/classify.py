"""Banking77 with MiniLM: burnish beside transformers' Trainer, in turn, on the same rows, batch, rate and epochs.

python benchmarks/classify.py [--quick]   → benchmarks/results/classify.json, docs/benchmarks.md
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import banking77, write_results, write_table
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from burnish.models import embedded
from burnish.recipe import Recipe
from burnish.records import Labelled, read_jsonl
from burnish.run import read_json
from burnish.steps.train import train

RATE, BATCH, TOKENS = 5e-4, 32, 64


def by_trainer(
    data: dict[str, str], folder: Path, *, epochs: float, seed: int, settings: dict[str, Any]
) -> dict[str, float]:
    """Train with transformers' Trainer; return seconds and accuracy on the test rows."""
    set_seed(seed)
    rows = {side: read_jsonl(Path(data[side]), Labelled) for side in ("train", "test")}
    labels = sorted({str(row.label) for row in rows["train"]})
    place = embedded.folder("embedded/minilm")
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(labels))
    sides = {
        side: [
            {**tokenizer(row.text, truncation=True, max_length=TOKENS), "labels": labels.index(str(row.label))}
            for row in found
        ]
        for side, found in rows.items()
    }
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=64,
        learning_rate=RATE,
        warmup_steps=0.06,
        weight_decay=0.01,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=sides["train"], data_collator=DataCollatorWithPadding(tokenizer)
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    logits: Any = trainer.predict(sides["test"]).predictions
    right = np.asarray(logits).argmax(axis=1) == np.array([row["labels"] for row in sides["test"]])
    return {"seconds": seconds, "value": float(right.mean())}


def by_burnish(data: dict[str, str], folder: Path, *, epochs: float, seed: int) -> dict[str, float]:
    """Train with burnish; return seconds of the training and accuracy on the test rows."""
    recipe = Recipe.model_validate(
        {
            "task": {"kind": "classify", "max_tokens": TOKENS},
            "model": "embedded/minilm",
            "method": {"kind": "full", "learning_rate": RATE},
            "data": {side: data[side] for side in ("train", "test")},
            "training": {"epochs": epochs, "batch": BATCH, "checkpoint_every": 0},
            "seed": seed,
        }
    )
    run = train(recipe, folder, say=lambda _: None, progress=lambda *_: None)
    seconds = sum(line["seconds"] for line in run.lines("clock.jsonl"))
    found = read_json(run.folder / "evaluation" / "test.json")["scores"]["accuracy"]
    return {"seconds": seconds, **found}


def main() -> None:
    """Run both in turn, twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows: a check that it runs, no result to quote")
    parser.add_argument("--turns", type=int, default=2, help="how often each has its turn; each time another seed")
    options = parser.parse_args()
    quick = options.quick
    work = Path(tempfile.mkdtemp(prefix="burnish-classify-"))
    data = banking77(work, train_rows=640 if quick else None, test_rows=320 if quick else None)
    epochs = 1 if quick else 2
    peers: dict[str, dict[str, Any]] = {
        "default": {},
        "bf16": {"bf16": True, "use_cpu": not torch.cuda.is_available()},
    }
    rows: list[dict[str, Any]] = []
    for turn in range(options.turns):
        ours = by_burnish(data, work / f"ours-{turn}", epochs=epochs, seed=turn)
        rows.append({"system": "burnish", "settings": "default", "turn": turn, **ours})
        print(rows[-1], flush=True)
        for name, settings in peers.items():
            theirs = by_trainer(data, work / f"{name}-{turn}", epochs=epochs, seed=turn, settings=settings)
            ratio = ours["seconds"] / theirs["seconds"]
            rows.append({"system": "transformers Trainer", "settings": name, "turn": turn, **theirs, "ratio": ratio})
            print(rows[-1], flush=True)
    for row in rows:
        row |= {"task": "Banking77", "metric": "accuracy", "epochs": epochs}
    write_results("classify", rows, quick=quick)
    if not quick:
        lines = [
            [row["system"], row["settings"], *(f"{row.get(key, 1.0):.3f}" for key in ("value", "seconds", "ratio"))]
            for row in rows
        ]
        headings = ["system", "settings", "accuracy", "seconds", "ours / theirs"]
        note = (
            f"Written by `python benchmarks/classify.py`: {epochs} epochs, batch {BATCH}, rate {RATE:g} on both sides; "
            "burnish's new head learns at ten times the rate, as is its default. Each turn has a seed of its own."
        )
        write_table("classify", "Banking77, MiniLM, full fine-tuning", headings, lines, note)


if __name__ == "__main__":
    main()
