"""Vectors in fewer bytes: a search among codes that finds candidates, and their order by the vectors themselves."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.models.vectors import Vectors

BLOCK = 16384  # vectors that are turned into codes at a time
SCORES = 2**24  # scores that are held at a time: 64 MB
_STEPS = 127  # codes run from -127 to 127


class Codes(Protocol):
    """Vectors in fewer bytes."""

    @property
    def bytes(self) -> int:
        """Memory that the codes take."""
        ...

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, min(k, rows)) the rows of the nearest codes, nearest first; of equal ones the later row."""
        ...


@dataclass(frozen=True, slots=True)
class Int8:
    """A byte a number: each dimension's own range, from the least to the largest found in it, in 254 equal steps.

    A query is rounded as well, after the steps are multiplied in; the products are whole numbers, thus exact, and the
    same however many queries are asked together. What the middle of the ranges adds is the same for all rows.
    """

    codes: Tensor  # (rows, width), int8
    step: Tensor  # (width,), fp32

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Read the vectors (rows, width) twice, block by block: once for the ranges and once for the codes."""
        rows, width = vectors.shape
        if not rows:
            return cls(torch.empty(0, width, dtype=torch.int8), torch.ones(width))
        least, most = torch.full((width,), torch.inf), torch.full((width,), -torch.inf)
        for first in range(0, rows, BLOCK):
            low, high = vectors[first : first + BLOCK].float().aminmax(dim=0)
            least, most = torch.minimum(least, low), torch.maximum(most, high)
        step = (most - least) / (2 * _STEPS)
        step[step == 0] = 1.0  # a dimension that is the same everywhere: its codes are 0
        middle = (most + least) / 2
        codes = torch.empty(rows, width, dtype=torch.int8)
        for first in range(0, rows, BLOCK):
            block = (vectors[first : first + BLOCK].float() - middle) / step
            codes[first : first + BLOCK] = block.round_().clamp_(-_STEPS, _STEPS).to(torch.int8)
        return cls(codes, step)

    @property
    def bytes(self) -> int:
        """Memory that the codes take."""
        return self.codes.numel()

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, min(k, rows)) the rows of the nearest codes, nearest first; of equal ones the later row."""
        rows = len(self.codes)
        found = torch.empty(len(queries), min(k, rows), dtype=torch.long)
        together = max(1, SCORES // max(rows, 1))
        for first in range(0, len(queries) if found.shape[1] else 0, together):
            asked = queries[first : first + together].float() * self.step
            asked = asked / asked.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) * _STEPS
            scores = torch._int_mm(asked.round().to(torch.int8), self.codes.T)  # three times faster than fp32 products
            for row, line in enumerate(scores.numpy(), start=first):
                found[row] = torch.from_numpy(_largest(line, found.shape[1]))
        return found


@dataclass(frozen=True, slots=True)
class Binary:
    """A bit a number: whether it is above 0. Near is what differs in few bits (Hamming distance)."""

    words: NDArray[np.uint64]  # (⌈width / 64⌉, rows): one word of all rows at a time is what a processor reads fastest

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Read the vectors (rows, width) once, block by block."""
        rows, width = vectors.shape
        words = np.empty((-(-width // 64), rows), np.uint64)
        for first in range(0, rows, BLOCK):
            words[:, first : first + BLOCK] = _packed(vectors[first : first + BLOCK])
        return cls(words)

    @property
    def bytes(self) -> int:
        """Memory that the codes take."""
        return self.words.nbytes

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, min(k, rows)) the rows of the nearest codes, nearest first; of equal ones the later row."""
        rows = self.words.shape[1]
        found = torch.empty(len(queries), min(k, rows), dtype=torch.long)
        if not found.shape[1]:
            return found
        for place, asked in enumerate(_packed(queries).T):
            apart = np.zeros(rows, np.int16)
            for word, bits in zip(self.words, asked, strict=True):
                apart += np.bitwise_count(word ^ bits)
            found[place] = torch.from_numpy(_largest(np.negative(apart, out=apart), found.shape[1]))
        return found


def rescored(queries: Tensor, vectors: "Gathered", rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of each query's candidates by dot product in fp32, and their rows, best first.

    queries: (queries, width); rows: (queries, candidates), -1 where there is none, which scores minus infinity. Of
    equal scores the later row comes first. A score does not depend on its candidate's place: equal vectors tie.
    """
    candidates = rows.shape[1]
    kept = min(k, candidates)
    best, found = torch.empty(len(queries), kept), torch.empty(len(queries), kept, dtype=torch.long)
    together = max(1, SCORES // max(1, candidates * queries.shape[1]))
    for first in range(0, len(queries), together):
        part = slice(first, first + together)
        here = rows[part].sort(dim=1, descending=True).values
        scores = (queries[part, None].float() * vectors.at(here.clamp_min(0))).sum(dim=2)
        scores[here < 0] = -torch.inf
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :kept]
        best[part], found[part] = scores.gather(1, order), here.gather(1, order)
    return best, found


class Gathered(Protocol):
    """Vectors of which any rows can be read."""

    def at(self, rows: Tensor) -> Tensor:
        """Return the vectors of these rows, of any shape, with one more dimension: (…, width)."""
        ...


def _packed(vectors: Tensor) -> NDArray[np.uint64]:
    """Return the signs of vectors (rows, width) as (words, rows), the last word filled up with zeros."""
    bits = np.packbits(vectors.numpy() > 0, axis=1)
    filled = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))
    return np.ascontiguousarray(filled.view(np.uint64).T)


def _largest(values: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Return the places of the k largest, largest first; of equal ones the later place."""
    bar = np.partition(values, len(values) - k)[len(values) - k]
    places = np.flatnonzero(values >= bar)
    return places[np.lexsort((places, values[places]))[::-1]][:k]
