"""The passages that a joint model searches: their texts, and their vectors beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from burnish.models.fixed import FixedPassages, encode_fixed
from burnish.models.joint import Joint
from burnish.models.topk import top_k
from burnish.records import Chunk


class Passages:
    """Passages by place; of those that read alike for the retriever one is found, the first.

    chunks: by place. vectors: (places, width), unit length, fp32.
    """

    def __init__(self, chunks: Sequence[Chunk], texts: Sequence[Sequence[int]], fixed: FixedPassages) -> None:
        """Take all chunks, the token ids that the retriever reads of each, and their vectors."""
        rows = fixed.rows(texts).tolist()
        first: dict[int, int] = {}
        for number, row in enumerate(rows):
            first.setdefault(row, number)
        self.chunks = [chunks[first[row]] for row in range(len(fixed.vectors))]
        self.vectors = fixed.vectors

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, k): the places of the nearest passages, best first. queries: (queries, width)."""
        return top_k(queries.float(), self.vectors, k)[1]


def passages_of(
    model: Joint,
    chunks: Callable[[], Sequence[Chunk]],
    *,
    folder: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Passages:
    """Return the passages that are kept beside a model, encoded at the first call by what its folder lacks."""
    if model not in _kept:
        tower, found = model.retriever.passages.to(next(model.parameters()).device), chunks()
        form = tower.format
        read = [form.passage(chunk.title, chunk.text) for chunk in found]
        texts, _ = tower.tokenize(read, max_tokens=form.passage_tokens)
        fixed, _ = encode_fixed(tower, lambda: texts, folder=folder, progress=progress)
        _kept[model] = Passages(found, texts, fixed)
    return _kept[model]


_kept: "WeakKeyDictionary[Joint, Passages]" = WeakKeyDictionary()


def chosen(vectors: Tensor, places_rk: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (rows, k, width) vectors at these places, and (rows, k) which of them are there; rows may have fewer."""
    k = max(map(len, places_rk))
    there_rk = torch.tensor([[number < len(row) for number in range(k)] for row in places_rk])
    padded = torch.tensor([[*row, *[0] * (k - len(row))] for row in places_rk])
    return vectors[padded], there_rk
