"""Classification, for benchmarks/speed.py: burnish beside transformers' Trainer."""

from pathlib import Path

from common import banking77
from speed_work import (
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
    trained_by,
    trainer_settings,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from burnish.methods import Method
from burnish.models.load import resolve
from burnish.records import Labelled, dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.tasks.classify import Classify
from burnish.train.check import set_dropout


def _task(rows: list[Labelled], tokens: int) -> Classify:
    labels = tuple(sorted({str(row.label) for row in rows}))
    return Classify(labels=labels, max_tokens=tokens)


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write Banking77's first rows, and the new head that both begin with."""
    data = banking77(folder, train_rows=asked["steps"] * asked["batch"], test_rows=1)
    rows = read_jsonl(Path(data["train"]), Labelled)
    write_text(folder / "rows.jsonl", dump_jsonl(rows))
    task = _task(rows, asked["tokens"])
    built, _ = begun(task, asked["encoder"], Method.read("full"))
    items = task.encode(rows, built).items
    return {
        "rows": str(folder / "rows.jsonl"),
        "rate": 5e-5,
        "order": order_of(items, asked["batch"]),
        "start": keep_start(built.model, folder / "head.safetensors", lambda name: name.startswith(built.fresh)),
    }


def _turn(asked: Asked) -> Told:
    rows = read_jsonl(Path(asked["rows"]), Labelled)
    task, method = _task(rows, asked["tokens"]), Method.read("full")
    built, model = begun(task, asked["encoder"], method)
    items = task.encode(rows, built).items
    tokens = by_step([items[place].tokens for place in asked["order"]], asked["batch"])
    if asked["system"].startswith("trainer"):
        return {**_by_trainer(asked, rows, task.labels), "tokens": tokens}
    rates = {"head_learning_rate": asked["rate"], "dropout": 0.0}  # the Trainer has one rate for all
    return {**fitted(task, built, model, method, items, asked, **rates), "tokens": tokens}


def _by_trainer(asked: Asked, rows: list[Labelled], labels: tuple[str, ...]) -> Told:
    place = resolve(asked["encoder"])
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(labels))
    set_dropout(model, 0.0)
    begin_alike(model, asked["start"])
    table = [
        {
            **tokenizer(rows[place].text, truncation=True, max_length=asked["tokens"]),
            "labels": labels.index(str(rows[place].label)),
        }
        for place in asked["order"]
    ]
    timed = Clock()
    arguments = TrainingArguments(
        **trainer_settings(asked), bf16=asked["precision"] == "bf16", train_sampling_strategy="sequential"
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=table,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[timed],
    )
    return trained_by(trainer, timed)


WORK = Work(
    label="Classification, MiniLM, in full",
    unit="rows",
    systems={
        **OURS,
        "trainer": System("transformers Trainer", "default", "fp32"),
        "trainer-best": System("transformers Trainer", "bf16", "bf16"),
    },
    size={"steps": 13, "batch": 32, "tokens": 64},
    quick={"steps": 2, "batch": 16, "tokens": 64},
    begin=_begin,
    turn=_turn,
    note="Banking77; one rate for all weights, no dropout.",
)
