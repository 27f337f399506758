"""Questions, their answers and the passages that hold them, for tests of joint training; a folder with all of it."""

from pathlib import Path

import torch

import tiny
from burnish.models.encode import Encoder
from burnish.models.towers import Towers
from burnish.records import Chunk, Question, dump_jsonl

WORDS = ("cat", "dog", "bird", "fish", "red", "green", "blue", "one", "two", "three", "four", "five")
CHUNKS = [Chunk(id=f"p{number}", text=f"the {word} is {WORDS[-number]}") for number, word in enumerate(WORDS, start=1)]
ROWS = [
    Question(id=f"q{number}", question=f"the {word}", answers=(f"{word} {WORDS[-number]}",), gold=(f"p{number}",))
    for number, word in enumerate(WORDS, start=1)
]


def write_halves(folder: Path) -> Path:
    """Write a retriever of one tower and one of two, a generator, and the passages; return the folder."""
    one = Encoder.load(str(tiny.tiny_bert(folder / "bert")), dtype=torch.float32)
    Towers.beginning_as(one).save(folder / "towers")
    tiny.tiny_llama(folder / "llama")
    (folder / "passages.jsonl").write_text(dump_jsonl(CHUNKS), encoding="utf-8")
    return folder
