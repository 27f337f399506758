"""Encoding a corpus, for benchmarks/speed.py: burnish beside sentence-transformers."""

from pathlib import Path

from retrieval_corpora import stdlib
from speed_work import OURS, Asked, System, Told, Work, clock

from burnish.models.encode import Encoder
from burnish.models.load import resolve
from burnish.models.precision import chosen_dtype
from burnish.models.towers import load_bi_encoder
from burnish.records import Chunk, dump_jsonl, read_jsonl
from burnish.run import write_text

TOKENS = 256  # where sentence-transformers cuts texts for this model


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write passages of the library, the first ones to warm up with."""
    chunks = stdlib(folder, quick=False).whole.chunks[: asked["steps"] * asked["batch"]]
    write_text(folder / "passages.jsonl", dump_jsonl(chunks))
    return {"rows": str(folder / "passages.jsonl"), "order": [*range(len(chunks))]}


def _turn(asked: Asked) -> Told:
    texts = [f"{chunk.title} {chunk.text}" for chunk in read_jsonl(Path(asked["rows"]), Chunk)]
    first, rest = texts[: asked["batch"]], texts[asked["batch"] :]
    ours = _encoder(asked)
    ids, _ = ours.tokenize(texts, max_tokens=TOKENS)
    tokens = [sum(map(len, part)) for part in (ids[: asked["batch"]], ids[asked["batch"] :])]
    told = {"before": 0.0, "tokens": tokens, "losses": [], "units": [len(first), len(rest)]}
    if asked["system"].startswith("st"):
        from sentence_transformers import SentenceTransformer

        best = asked["precision"] == "bf16"
        model = SentenceTransformer(str(resolve(asked["encoder"])))
        if best:
            model.bfloat16()

        def encode(part: list[str]) -> object:
            return model.encode(part, show_progress_bar=False, **({"batch_size": 64} if best else {}))

        told["dtype"] = "bfloat16" if best else "float32"
    else:

        def encode(part: list[str]) -> object:
            return ours.encode(part, max_tokens=TOKENS)[0]

        told["dtype"] = str(next(ours.parameters()).dtype).removeprefix("torch.")
    seconds = []
    for part in (first, rest):
        began = clock()
        encode(part)
        seconds.append(clock() - began)
    return {**told, "seconds": seconds}


def _encoder(asked: Asked) -> Encoder:
    precision = asked["precision"]
    encoder = load_bi_encoder(asked["encoder"], dtype=chosen_dtype(precision))
    assert isinstance(encoder, Encoder)
    return encoder.eval()


WORK = Work(
    label="Encoding a corpus, MiniLM",
    unit="texts",
    systems={
        **OURS,
        "st": System("sentence-transformers", "default", "fp32"),
        "st-best": System("sentence-transformers", "bf16 weights, 64 at a time", "bf16"),
    },
    size={"steps": 9, "batch": 64},
    quick={"steps": 2, "batch": 32},
    begin=_begin,
    turn=_turn,
    note="The standard library's passages; both tokenize, sort by length, and return vectors.",
)
