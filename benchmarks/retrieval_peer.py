"""A bi-encoder trained by sentence-transformers, in a process of its own, for benchmarks/retrieval.py.

python benchmarks/retrieval_peer.py ASKED.json   → model/ and told.json beside it

Needs `pip install 'sentence-transformers[train]'`. Loss and trainer have their defaults but for what ASKED.json says:
the pairs, steps, batch, rate, tokens and seed.
"""

import json
import sys
import time
from pathlib import Path

from datasets import Dataset
from mining import peak_mb
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from burnish.models import embedded
from burnish.records import Pair, read_jsonl
from burnish.run import write_json


def main() -> None:
    """Train, save, and encode the passages; tell seconds and the peak memory of the training."""
    place = Path(sys.argv[1]).parent
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = read_jsonl(Path(asked["rows"]), Pair)
    model = SentenceTransformer(str(embedded.folder(asked["model"])))
    model.max_seq_length = asked["tokens"]
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(place / "trainer"),
        max_steps=asked["steps"],
        per_device_train_batch_size=asked["batch"],
        learning_rate=asked["rate"],
        seed=asked["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    pairs = {"anchor": [row.query for row in rows], "positive": [row.positives[0] for row in rows]}
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(pairs), loss=MultipleNegativesRankingLoss(model)
    )
    began = time.perf_counter()
    trainer.train()
    told = {"train": time.perf_counter() - began, "peak_mb": peak_mb()}
    passages = json.loads(Path(asked["passages"]).read_text(encoding="utf-8"))
    began = time.perf_counter()
    model.encode(passages, show_progress_bar=False)
    told["encode"] = time.perf_counter() - began
    model.save(str(place / "model"))
    write_json(place / "told.json", told)


if __name__ == "__main__":
    main()
