"""Mining hard negatives, for benchmarks/speed.py: burnish beside sentence-transformers."""

import json
from pathlib import Path
from typing import Any

from retrieval_corpora import stdlib
from speed_work import Asked, System, Told, Work, clock

from burnish.models.load import load_tokenizer, resolve
from burnish.models.precision import chosen_dtype
from burnish.prepare.beir import write_beir
from burnish.readers.beir import Beir
from burnish.steps.mine import mine
from burnish.steps.mine_recipe import Mine
from burnish.text import TextFormat

TOKENS = 256  # where sentence-transformers cuts texts for this model
NEGATIVES, MARGIN = 3, 0.05
DEPTH = 10 * NEGATIVES + 1  # hits of a question that sentence-transformers looks at with a margin
FORMAT = {"query_tokens": TOKENS, "passage_tokens": TOKENS}


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write questions with a right passage each, and other passages of the library; a small part to warm up with."""
    fold = stdlib(folder, quick=False).whole
    found = [row.model_copy(update={"gold": row.gold[:1]}) for row in fold.sides["train"]]
    for name, share in (("warm", 16), ("whole", 1)):
        questions = found[: asked["questions"] // share]
        right = {row.gold[0] for row in questions}
        others = [chunk for chunk in fold.chunks if chunk.id not in right]
        kept = {chunk.id for chunk in others[: asked["passages"] // share - len(right)]} | right
        write_beir(folder / name, [chunk for chunk in fold.chunks if chunk.id in kept], {"train": questions})
    return {"data": str(folder)}


def _turn(asked: Asked) -> Told:
    seconds, tokens, units, written = [], [], [], []
    read = load_tokenizer(asked["encoder"], resolve(asked["encoder"]))
    for name in ("warm", "whole"):
        source = Beir(path=Path(asked["data"]) / name).load()
        texts = [row.question for row in source.questions]
        texts += [TextFormat().passage(chunk.title, chunk.text) for chunk in source.chunks]
        ids = read(texts, truncation=True, max_length=TOKENS)["input_ids"]
        began = clock()
        found = (_by_peer if asked["system"].startswith("st") else _by_us)(asked, name)
        seconds.append(clock() - began)
        tokens.append(sum(map(len, ids)))
        units.append(len(source.questions))
        written = [sorted(found.get(row.id, [])) for row in source.questions]
    dtype = chosen_dtype(asked["precision"])
    told = {"seconds": seconds, "before": 0.0, "tokens": tokens, "units": units, "losses": [], "written": written}
    return {**told, "dtype": str(dtype).removeprefix("torch.")}


def _by_us(asked: Asked, name: str) -> dict[str, list[str]]:
    """Return each question's negatives, by the rules that sentence-transformers has."""
    out = Path(asked["told"]).parent / f"{asked['system']}-{name}" / "rows.jsonl"
    out.parent.mkdir(exist_ok=True)
    recipe = Mine.model_validate(
        {
            "data": {"kind": "beir", "path": str(Path(asked["data"]) / name)},
            "retrievers": [{"kind": "dense", "model": asked["encoder"], "format": FORMAT}],
            "rules": {
                "per_question": NEGATIVES,
                "depth": DEPTH,
                "ceiling": None,
                "relative_margin": MARGIN,
                "contains_answer": False,
                "copies": None,
            },
        }
    )
    mine(recipe, out, say=lambda _: None, progress=lambda *_: None)
    lines = out.with_suffix(".negatives.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: [found["id"] for found in row["negatives"]] for row in map(json.loads, lines)}


def _by_peer(asked: Asked, name: str) -> dict[str, list[str]]:
    """Return the same by sentence-transformers; the best settings: weights in bf16, 64 texts at a time."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    source = Beir(path=Path(asked["data"]) / name).load()
    texts = {chunk.id: TextFormat().passage(chunk.title, chunk.text) for chunk in source.chunks}
    best = asked["system"] == "st-best"
    model = SentenceTransformer(str(resolve(asked["encoder"])))
    if best:
        model.bfloat16()
    table = {
        "anchor": [row.question for row in source.questions],
        "positive": [texts[row.gold[0]] for row in source.questions],
    }
    rows: Any = mine_hard_negatives(
        Dataset.from_dict(table),
        model,
        corpus=[*texts.values()],
        num_negatives=NEGATIVES,
        relative_margin=MARGIN,
        output_format="triplet",
        verbose=False,
        **({"batch_size": 64} if best else {}),
    )
    ids, keys = ({text: key for key, text in table.items()} for table in (texts, _questions(source)))
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(keys[row["anchor"]], []).append(ids[row["negative"]])
    return found


def _questions(source: Any) -> dict[str, str]:
    return {row.id: row.question for row in source.questions}


WORK = Work(
    label="Mining negatives, MiniLM",
    unit="questions",
    systems={
        "burnish": System("burnish", "default", "auto"),
        "st": System("sentence-transformers", "default", "fp32"),
        "st-best": System("sentence-transformers", "bf16 weights, 64 at a time", "bf16"),
    },
    size={"steps": 2, "batch": 1, "questions": 512, "passages": 2048},
    quick={"steps": 2, "batch": 1, "questions": 32, "passages": 128},
    begin=_begin,
    turn=_turn,
    note=(
        "The standard library's questions, three negatives each by a relative margin of .05; encoding is part of it; "
        "ours also drops a passage that is titled like an answer, or repeats another's text."
    ),
)
