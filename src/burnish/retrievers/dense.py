"""Dense retrieval: the nearest vectors, exactly."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.models.encode import Encoder
from burnish.models.precision import allow_faster_fp32, chosen_dtype
from burnish.models.topk import top_k
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.run import new_folder, read_json, write_json
from burnish.text import TextFormat, fingerprint


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
            vectors, cut = encoder.encode(
                texts,
                max_tokens=encoder.format.passage_tokens,
                progress=lambda done, total: progress("encoding passages", done, total),
            )
            with new_folder(kept) as beside:
                save_file({"vectors": vectors}, beside / "vectors.safetensors")
                write_json(beside / "notes.json", {f"passages cut at {encoder.format.passage_tokens} tokens": cut})
        vectors = load_file(kept / "vectors.safetensors")["vectors"]
        notes = {reason: count for reason, count in read_json(kept / "notes.json").items() if count}
        return _DenseSearcher(encoder, vectors, [ids[text] for text in texts], notes)


class _DenseSearcher:
    """Equal passages are one row: a matrix product may round equal columns differently, and they would not tie."""

    def __init__(self, encoder: Encoder, vectors: Tensor, ids: list[list[str]], notes: dict[str, int]) -> None:
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
