"""Contrastive training of a retriever, for benchmarks/speed.py: burnish beside sentence-transformers."""

from pathlib import Path
from typing import Any

from retrieval_corpora import stdlib
from speed_work import (
    OURS,
    Asked,
    Clock,
    System,
    Told,
    Work,
    begun,
    by_step,
    fitted,
    order_of,
    trained_by,
    trainer_settings,
)

from burnish.methods import Method
from burnish.models.load import resolve
from burnish.prepare.judged import training_pairs
from burnish.records import Pair, dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.tasks.retrieve import Retrieve
from burnish.train.check import set_dropout

TASK = {"loss": {"kind": "contrastive", "temperature": 0.05}}
TOKENS = 128


def _task() -> Retrieve:
    return Retrieve.model_validate({**TASK, "query_tokens": TOKENS, "passage_tokens": TOKENS})


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write questions to the library's functions with their passages."""
    fold = stdlib(folder, quick=False).whole
    found = [row for row in training_pairs(fold.data) if row.positives]
    rows = [row.model_copy(update={"positives": row.positives[:1], "negatives": ()}) for row in found]
    rows = rows[: asked["steps"] * asked["batch"]]
    write_text(folder / "rows.jsonl", dump_jsonl(rows))
    built, _ = begun(_task(), asked["encoder"], Method.read("full"))
    return {
        "rows": str(folder / "rows.jsonl"),
        "rate": 3e-5,
        "order": order_of(_task().encode(rows, built).items, asked["batch"]),
    }


def _turn(asked: Asked) -> Told:
    rows = read_jsonl(Path(asked["rows"]), Pair)
    task, method = _task(), Method.read("full")
    built, model = begun(task, asked["encoder"], method)
    items = task.encode(rows, built).items
    found = [items[place] for place in asked["order"]]
    tokens = by_step([len(item.query) + len(item.positives[0]) for item in found], asked["batch"])
    if asked["system"].startswith("st"):
        return {**_by_peer(asked, rows), "tokens": tokens}
    return {**fitted(task, built, model, method, items, asked, dropout=0.0), "tokens": tokens}


def _by_peer(asked: Asked, rows: list[Pair]) -> Told:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from torch.utils.data import SequentialSampler

    def in_order(dataset: Any, **settings: Any) -> DefaultBatchSampler:
        return DefaultBatchSampler(SequentialSampler(dataset), **settings)

    model = SentenceTransformer(str(resolve(asked["encoder"])))
    model.max_seq_length = TOKENS
    set_dropout(model, 0.0)
    timed = Clock()
    arguments = SentenceTransformerTrainingArguments(
        **trainer_settings(asked), batch_sampler=in_order, bf16=asked["precision"] == "bf16"
    )
    ordered = [rows[place] for place in asked["order"]]
    table = {"anchor": [row.query for row in ordered], "positive": [row.positives[0] for row in ordered]}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(table),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[timed],
    )
    return trained_by(trainer, timed)


WORK = Work(
    label="Retriever, contrastive, MiniLM",
    unit="pairs",
    systems={
        **OURS,
        "st": System("sentence-transformers", "default", "fp32"),
        "st-best": System("sentence-transformers", "bf16", "bf16"),
    },
    size={"steps": 6, "batch": 64},
    quick={"steps": 2, "batch": 16},
    begin=_begin,
    turn=_turn,
    note="Questions to the standard library with their passages, in-batch negatives, temperature .05, no dropout.",
    counted=True,
)
