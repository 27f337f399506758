"""Small networks that have read a little, as every method expects of what it starts from.

Soft tokens, factors and probes steer what a network knows: beside random weights they have nothing to steer. Each of
these networks has read some hundred steps of questions with their answers, and of sentences that name a word twice.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from safetensors.torch import load_file, save_file

import tiny
from burnish.methods.full import Full
from burnish.models.reading import SENTINEL
from burnish.records import Chunk, Document, dump_jsonl
from burnish.tasks.pretrain import Pretrain
from learn import fit_items

ANIMALS = {"cat", "dog", "bird", "fish"}
ASKED = ("the", "a", "is", "cat", "dog", "bird", "fish", "red", "green", "blue", "one", "two", "and", "where")
STEPS = {"bert": 900, "llama": 600, "t5": 400}
RATES = {"bert": 3e-3, "llama": 3e-3, "t5": 5e-3}
BATCH = 32
SURE = {"bert": 0.97, "llama": 0.9, "t5": 0.85}  # sentences that name one word twice; the rest leave something to learn


def make_backbones(folder: Path) -> dict[str, Path]:
    """Write one network of each kind that has read on, and a T5 that has not; and passages of a word each.

    What a T5 learns of spans is no help to its classifiers: they ask its decoder about texts that have no spans.
    """
    sentinels = [SENTINEL.format(number) for number in range(8)]
    words = [*tiny.WORDS, *sentinels]
    bases = {
        "bert": tiny.tiny_bert(folder / "bert", head=True),
        "llama": tiny.tiny_llama(folder / "llama"),
        "t5": tiny.tiny_t5(folder / "t5", words=words),
    }
    passages = [Chunk(id=word, text=word) for word in ASKED]
    (folder / "passages.jsonl").write_text(dump_jsonl(passages), encoding="utf-8")
    for kind, base in bases.items():
        _read_on(base, steps=STEPS[kind], rate=RATES[kind], sure=SURE[kind])
    return bases | {"t5, random": _far_apart(tiny.tiny_t5(folder / "random", words=words))}


def _far_apart(base: Path) -> Path:
    """Move the word vectors of a T5 apart, so that its frozen layers tell texts from each other."""
    weights = load_file(base / "model.safetensors")
    weights["shared.weight"] *= 3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    return base


def has_animal(text: str) -> bool:
    """Tell whether one of the words is an animal's."""
    return bool(ANIMALS & set(text.split()))


def named_twice(first: str, second: str) -> str:
    """Return a sentence that names a word, and then the same one or another."""
    return f"{first} is a {second}"


def _read_on(base: Path, *, steps: int, rate: float, sure: float) -> None:
    """Train all weights of a network on texts, and write it where it was."""
    task, method = Pretrain(block_tokens=16), Full(learning_rate=rate)
    torch.manual_seed(0)
    built = task.build(str(base))
    items = task.encode([*_texts(sure)], built).items
    steps_folder, epochs = base.parent / f"{base.name}-steps", round(steps * BATCH / len(items))
    model = method.apply(built.model)
    losses = fit_items(task, model, items, steps_folder, method=method, fresh=built.fresh, epochs=epochs, batch=BATCH)
    assert mean(losses[-20:]) < losses[0] / 3
    task.save(built.model, built, base)


def _texts(sure: float) -> Iterator[Document]:
    """Questions whether there is an animal in a text, and sentences that mostly name one word twice."""
    draw = random.Random(1)
    for number in range(1024):
        asked = " ".join(draw.choice(ASKED) for _ in range(draw.randint(1, 4)))
        word, other = draw.choice(tiny.WORDS), draw.choice(tiny.WORDS)
        named = named_twice(word, word if draw.random() < sure else other)
        question = f"{asked} ? {'yes' if has_animal(asked) else 'no'}"
        yield Document(id=str(number), text=draw.choice((question, named)))
