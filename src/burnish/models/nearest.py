"""The nearest of a corpus's stored vectors: exactly, among codes, or by an approximate index; what that misses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from burnish.models.approximate import Approximate
from burnish.models.matryoshka import shortened
from burnish.models.quantize import Binary, Int8, rescored
from burnish.models.store import StoredRows
from burnish.models.topk import top_k

Coding = Literal["fp32", "int8", "binary"]
Index = Literal["exact", "hnsw", "ivf"]

HELD = 2**28  # bytes of vectors that an exact search keeps in memory; more is read from the disk for each search
SAMPLE = 100  # passages or questions that a search is checked with
FIRST = 10  # hits of each that must be found
_SAME = 1e-6  # scores that differ by less are equal, but for rounding


class Nearest(Protocol):
    """A search among the rows of a corpus."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return (queries, k) scores and rows, best first; a row is -1 and its score minus infinity where none is."""
        ...


class Exact:
    """Every dot product in fp32."""

    def __init__(self, vectors: StoredRows) -> None:
        """Keep the vectors in memory where they are few."""
        rows, width = vectors.shape
        self._vectors = vectors[:] if rows * width * 4 <= HELD else vectors

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best of each query; of equal scores the later row comes first."""
        return top_k(queries, self._vectors, k)


@dataclass(frozen=True, slots=True)
class Rescored:
    """Candidates of a cheaper search, `times` as many as asked for, put into order by their vectors in fp32."""

    candidates: Int8 | Binary | Approximate
    vectors: StoredRows
    times: int

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best of each query's candidates; of equal scores the later row comes first."""
        rows = self.candidates.nearest(queries, min(k * self.times, self.vectors.shape[0]))
        return rescored(queries, self.vectors, rows, k)


@dataclass(frozen=True, slots=True)
class ByWhole:
    """A search by the first numbers of the vectors, its hits scored by whole ones: what the exact search compares."""

    nearest: Nearest
    dimensions: int
    vectors: StoredRows

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k rows that the search finds for whole queries, and the scores of their whole vectors."""
        _, rows = self.nearest.search(shortened(queries, self.dimensions), k)
        scores = (self.vectors.at(rows.clamp_min(0)) * queries[:, None]).sum(dim=2)
        return scores.masked_fill(rows < 0, -torch.inf), rows


def nearest(
    vectors: StoredRows, keys: Sequence[bytes], *, coding: Coding, index: Index, times: int, folder: Path
) -> Nearest:
    """Return the search that was chosen; an approximate index is kept in the folder. keys: of the rows' texts."""
    if index != "exact" and keys:  # FAISS makes no index of nothing
        made = Approximate.open(folder, index, keys, vectors, coded=coding == "int8")
        return Rescored(made, vectors, times)
    if coding == "fp32":
        return Exact(vectors)
    return Rescored(Int8.of(vectors) if coding == "int8" else Binary.of(vectors), vectors, times)


def missed(search: Nearest, vectors: StoredRows, queries: Tensor, k: int = FIRST) -> tuple[int, int]:
    """Return how many of each query's k nearest rows a search does not find among its first k, and how many there are.

    Recall@k against the exact search is one minus their quotient. A row that scores as the last that was found is not
    missed.
    """
    exact, rows = top_k(queries, vectors, k)
    scores, found = search.search(queries, k)
    last = scores.min(dim=1).values if scores.shape[1] else torch.full((len(queries),), -torch.inf)
    absent = ~(rows[:, :, None] == found[:, None, :]).any(dim=2)
    return int((absent & (exact > last[:, None] + _SAME)).sum()), rows.numel()


def sampled(vectors: StoredRows) -> Tensor:
    """Return the vectors of some rows, evenly spread: questions that every corpus has."""
    rows = vectors.shape[0]
    return vectors.at(torch.linspace(0, rows - 1, min(rows, SAMPLE), dtype=torch.float64).round().long())
