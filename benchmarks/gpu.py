"""On a GPU: burnish beside its peers with random weights of a size that is fine-tuned there; quality is not the matter.

python benchmarks/gpu.py [--tiny] [--peer FOLDER]   → benchmarks/results/gpu.json, docs/benchmarks.md

SFT with LoRA and in full, contrastive training, DPO and a joint step: tokens a second, the share of what the chip gives
in matrix products, and peak memory, against TRL and sentence-transformers. Needs what benchmarks/speed.py needs.
`--tiny`: models of a few thousand weights and two steps, on any machine: a check that it runs; writes no page.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import speed_dpo
import speed_joint
import speed_retriever
import speed_sft
import torch
from common import write_results, write_table
from retrieval_corpora import stdlib
from speed import HEADINGS, chip_rates, compared, table_line
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from burnish.models import embedded
from burnish.models.precision import device_words
from burnish.preference_rows import Preference
from burnish.records import Chunk, Completion, Message, dump_jsonl
from burnish.run import write_text

WRITER = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192}
ENCODER = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WORKS = {
    "sft": (replace(speed_sft.WORK, label="SFT with LoRA"), {"steps": 6, "batch": 16}),
    "full": (replace(speed_sft.WORK, label="SFT in full"), {"steps": 6, "batch": 16, "full": 1}),
    "retriever": (replace(speed_retriever.WORK, label="Contrastive"), {"steps": 6, "batch": 256}),
    "dpo": (replace(speed_dpo.WORK, label="DPO with LoRA"), {"steps": 6, "batch": 16}),
    "joint": (replace(speed_joint.WORK, label="Joint step"), {"steps": 6, "batch": 16}),
}
SHOWN = ("burnish", "trl", "trl-best", "st", "st-best", "one-pass", "graph")  # systems; not those in fp32 for its own
ANSWER = 60  # words


def main() -> None:
    """Make the models and rows, time every system on them, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models and two steps: a check that it runs")
    parser.add_argument("--workloads", nargs="+", choices=WORKS, default=[*WORKS])
    parser.add_argument("--peer", default="", help="a folder with trl and datasets")
    told = parser.parse_args()
    chip, rows = chip_rates(), []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        models = make_models(place, tiny=told.tiny)
        files = write_rows(place, stdlib(place / "corpus", quick=True).whole.chunks)
        for name in told.workloads:
            work, size = WORKS[name]
            size = {**size, **({"steps": 2, "batch": 4} if told.tiny else {})}
            work = replace(work, systems={key: work.systems[key] for key in SHOWN if key in work.systems})
            asked: dict[str, Any] = {
                "workload": name,
                "turns": 1,
                "peer": told.peer,
                "quick": told.tiny,
                **models,
                **size,
            }
            if name in files:
                asked["rows"] = str(files[name])
            (place / name).mkdir()
            rows += compared(work, asked, place / name, chip)
            write_results("gpu", rows, quick=told.tiny)
    if not told.tiny:
        write_page(rows)


def make_models(folder: Path, *, tiny: bool) -> dict[str, str]:
    """Write a writer and an encoder of random weights, with the tokenizers of the models at hand."""
    torch.manual_seed(0)
    writer, encoder = embedded.folder("embedded/smollm2"), embedded.folder("embedded/minilm")
    shape = {"max_position_embeddings": 2048, "num_key_value_heads": 2 if tiny else 8, "tie_word_embeddings": True}
    like = {"vocab_size": 49152, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    llama: Any = LlamaForCausalLM(LlamaConfig(**(TINY if tiny else WRITER), **shape, **like)).to(torch.bfloat16)
    bert: Any = BertModel(BertConfig(**(TINY if tiny else ENCODER)))
    for name, network, source in (("writer", llama, writer), ("encoder", bert, encoder)):
        network.save_pretrained(folder / name)
        for file in Path(source).glob("*token*"):
            shutil.copy(file, folder / name)
        for file in ("vocab.txt", "chat_template.jinja"):
            if (Path(source) / file).is_file():
                shutil.copy(Path(source) / file, folder / name)
    return {"writer": str(folder / "writer"), "encoder": str(folder / "encoder")}


def write_rows(folder: Path, chunks: Sequence[Chunk]) -> dict[str, Path]:
    """Write rows of the library's passages: a question behind four of them, and what the right one says."""
    asks = [_ask(chunks, place) for place in range(len(chunks) - 4)]
    says = [" ".join(chunk.text.split()[:ANSWER]) or chunk.title for chunk in chunks]
    answered = [
        Completion(id=str(place), prompt=(Message(role="user", content=ask),), completion=says[place])
        for place, ask in enumerate(asks)
    ]
    preferred = [
        Preference(id=row.id, prompt=row.prompt, chosen=row.completion, rejected=says[place + 1])
        for place, row in enumerate(answered)
        if says[place + 1] != row.completion
    ]
    files = {"sft": folder / "answered.jsonl", "full": folder / "answered.jsonl", "dpo": folder / "preferred.jsonl"}
    write_text(files["sft"], dump_jsonl(answered))
    write_text(files["dpo"], dump_jsonl(preferred))
    return files


def _ask(chunks: Sequence[Chunk], place: int) -> str:
    texts = [f"{chunk.title}: {' '.join(chunk.text.split()[:ANSWER])}" for chunk in chunks[place : place + 4]]
    return "\n".join([*texts, f"What does {chunks[place].title} do?"])


def write_page(rows: Sequence[dict[str, Any]]) -> None:
    """Put the rows into the page's table."""
    note = (
        f"Written by `python benchmarks/gpu.py` on {device_words()}: a Llama of {WRITER['num_hidden_layers']} layers "
        f"of {WRITER['hidden_size']:,} and an encoder of {ENCODER['num_hidden_layers']} layers of "
        f"{ENCODER['hidden_size']:,}, random weights. Seconds are the clock's, without the first step; otherwise as in "
        "the table above."
    )
    write_table("gpu", "Speed beside peers, on a GPU", HEADINGS, [*map(table_line, rows)], note)


if __name__ == "__main__":
    main()
