"""Dense retrieval: the nearest vectors, exactly."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from burnish.models.encode import Encoder
from burnish.models.precision import allow_faster_fp32, chosen_dtype
from burnish.models.topk import top_k
from burnish.models.vectors import VectorFile, write_in_blocks
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.run import locked, read_json, write_json
from burnish.text import TextFormat, fingerprint

BLOCK = 32768  # passages that are encoded before their vectors are on the disk: their token ids take some 150 MB


class Dense(Retriever):
    """A bi-encoder: passages and questions as vectors, exact search over all of them."""

    model: str
    format: TextFormat | None = None  # None: the model's own

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Encode the chunks, or read their vectors from the cache: kept by model and by texts."""
        allow_faster_fp32()
        progress("loading the encoder", 0, 1)
        encoder = Encoder.load(self.model, dtype=chosen_dtype())
        encoder.format = self.format or encoder.format
        ids: dict[str, list[str]] = {}  # text → ids in descending order; texts in descending order of their first
        for chunk in sorted(chunks, key=lambda chunk: chunk.id, reverse=True):
            ids.setdefault(encoder.format.passage(chunk.title, chunk.text), []).append(chunk.id)
        texts = [*reversed(ids)]  # of equal scores the later row comes first
        kept = cache / f"{encoder.fingerprint()}-{fingerprint(*texts)}"
        if not (kept / "notes.json").is_file():
            with locked(kept):
                _encode(encoder, texts, kept, progress)
        vectors = VectorFile.open(kept / "vectors.safetensors")
        notes = {reason: count for reason, count in read_json(kept / "notes.json").items() if count}
        return _DenseSearcher(encoder, vectors, [ids[text] for text in texts], notes)


def _encode(encoder: Encoder, texts: Sequence[str], kept: Path, progress: Progress) -> None:
    """Write the vectors of the passages, block by block: a killed run loses one block, and memory stays bounded."""
    longest = encoder.format.passage_tokens

    def make(first: int, last: int) -> tuple[Tensor, int]:
        return encoder.encode(
            texts[first:last],
            max_tokens=longest,
            progress=lambda done, _: progress("encoding passages", first + done, len(texts)),
        )

    shape = (len(texts), encoder.width)
    cut = write_in_blocks(kept / "vectors.safetensors", make, shape=shape, dtype=torch.float32, block=BLOCK)
    write_json(kept / "notes.json", {f"passages cut at {longest} tokens": cut})


class _DenseSearcher:
    """Equal passages are one row: a matrix product may round equal columns differently, and they would not tie."""

    def __init__(self, encoder: Encoder, vectors: VectorFile, ids: list[list[str]], notes: dict[str, int]) -> None:
        self.notes = notes
        self._encoder = encoder
        self._vectors = vectors
        self._ids = ids

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        if not questions:
            return []
        form = self._encoder.format
        queries, _ = self._encoder.encode([form.query(text) for text in questions], max_tokens=form.query_tokens)
        scores, rows = top_k(queries, self._vectors, k)
        return [self._hits(best, found, k) for best, found in zip(scores.tolist(), rows.tolist(), strict=True)]

    def _hits(self, scores: list[float], rows: list[int], k: int) -> list[Hit]:
        hits = [Hit(key, score) for score, row in zip(scores, rows, strict=True) for key in self._ids[row]]
        return sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)[:k]
