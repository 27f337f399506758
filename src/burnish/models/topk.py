"""Exact nearest neighbours, block by block: memory does not grow with the corpus, and a killed search goes on."""

import json
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from burnish.models.vectors import Vectors

BLOCK = 16384  # passages scored at a time, at most
QUERIES = 1024  # queries scored at a time, at most
BUDGET = 2**30  # bytes
_EACH_SCORE = 32  # bytes that one score may need while the largest are looked for: itself, copies, places, marks
_EVERY = 30.0  # seconds between two notes of where a search stands


class Sizes(NamedTuple):
    """How many queries and passages are scored at a time."""

    queries: int
    passages: int


def top_k(
    queries: Tensor,
    passages: Vectors,
    k: int,
    *,
    budget: int = BUDGET,
    state: Path | None = None,
    every: float = _EVERY,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Tensor, Tensor]:
    """Return the k largest dot products of each query and the rows of their passages, largest first.

    queries: (queries, width); passages: (passages, width), a tensor or a file, stored in fp32, fp16 or bf16. Scores
    are fp32, and so is every product. Of equal scores the later row comes first; where fewer than k passages exist, all
    are returned.
    budget: bytes that the search may take beside its result, which takes 12 for each query and place. Every passage is
    read once, whatever the number of queries.
    state: a file that keeps the best so far, written anew after so many seconds (`every`) and removed at the end. A
    search that was killed goes on from there, and its result is the same, bit for bit. A file of another search (other
    queries, another k, other passages as far as they were read) is not used.
    progress: called with how many passages are done, and how many there are.
    """
    count, width = passages.shape
    sizes = sizes_within(budget, width)
    best = _Best.empty(len(queries), min(k, count), queries.device)
    book = _Book(state, queries, passages, k, sizes) if state else None
    first = book.read(best) if book else 0
    noted = time.monotonic()
    while first < count:
        progress(first, count)
        stored = passages[first : first + sizes.passages]
        block = stored.to(queries.device, torch.float32)
        for start in range(0, len(queries), sizes.queries):
            rows = slice(start, start + sizes.queries)
            best.meet(rows, queries[rows].float() @ block.T, first)
        first += len(stored)
        best.filled = min(k, first)
        if book:
            book.heard(stored)
            if time.monotonic() - noted >= every and first < count:
                book.write(best, first)
                noted = time.monotonic()
    progress(count, count)
    if state:
        state.unlink(missing_ok=True)
    return best.scores, best.rows


def sizes_within(budget: int, width: int) -> Sizes:
    """Return how much is scored at a time, so that it fits into so many bytes.

    Raises:
        ValueError: not even one query and one passage fit.
    """
    queries, passages = QUERIES, BLOCK
    while queries * passages * _EACH_SCORE + passages * width * 8 + queries * width * 4 > budget:
        if queries == passages == 1:
            raise ValueError(f"{budget} bytes are too few to search vectors of {width} numbers")
        if passages >= queries:
            passages = max(1, passages // 2)
        else:
            queries = max(1, queries // 2)
    return Sizes(queries, passages)


class _Best:
    """The best seen so far of every query: the first `filled` columns of scores and rows."""

    def __init__(self, scores: Tensor, rows: Tensor, filled: int) -> None:
        self.scores, self.rows, self.filled = scores, rows, filled

    @classmethod
    def empty(cls, queries: int, k: int, device: torch.device) -> "_Best":
        scores = torch.empty(queries, k, device=device)
        return cls(scores, torch.empty(queries, k, dtype=torch.long, device=device), 0)

    def meet(self, lines: slice, found: Tensor, first: int) -> None:
        """Take in the scores (queries, passages) of some queries with a block that begins at row `first`."""
        k = self.scores.shape[1]
        scores, places = _largest(found, k)
        best = torch.cat([self.scores[lines, : self.filled], scores], dim=1)
        rows = torch.cat([self.rows[lines, : self.filled], places + first], dim=1)
        by_row = rows.argsort(dim=1, descending=True)
        best, rows = best.gather(1, by_row), rows.gather(1, by_row)
        by_score = best.argsort(dim=1, descending=True, stable=True)[:, :k]
        wide = by_score.shape[1]
        self.scores[lines, :wide], self.rows[lines, :wide] = best.gather(1, by_score), rows.gather(1, by_score)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return at least the k largest of each row and their places, with all that equal the smallest of them."""
    k = min(k, scores.shape[1])
    if not k or not len(scores):
        return scores[:, :0], torch.empty(len(scores), 0, dtype=torch.long, device=scores.device)
    values, places = scores.topk(k, dim=1)
    bar = values[:, -1:]
    left_out = int(((scores == bar).sum(dim=1) - (values == bar).sum(dim=1)).max())
    return scores.topk(k + left_out, dim=1) if left_out else (values, places)


class _Book:
    """Where a search stands, kept in a file: the next passage, the best so far, and what they rest on."""

    def __init__(self, path: Path, queries: Tensor, passages: Vectors, k: int, sizes: Sizes) -> None:
        self._path, self._passages, self._sizes = path, passages, sizes
        self._heard = blake2b(digest_size=16)
        asked = [k, *sizes, *queries.shape, str(queries.dtype), *passages.shape, str(passages.dtype)]
        self._key = blake2b(json.dumps(asked).encode() + _bytes(queries), digest_size=16).hexdigest()

    def heard(self, block: Tensor) -> None:
        """Take a block of passages into what the state rests on."""
        self._heard.update(_bytes(block))

    def read(self, best: _Best) -> int:
        """Fill in what an earlier search found, and return the first passage that it had not seen."""
        if not self._path.is_file():
            return 0
        try:
            with safe_open(self._path, framework="pt") as file:
                about = file.metadata()
                scores, rows = file.get_tensor("scores"), file.get_tensor("rows")
        except SafetensorError:
            return 0
        if about.get("key") != self._key:
            return 0
        first = int(about["next"])
        for place in range(0, first, self._sizes.passages):
            self.heard(self._passages[place : min(place + self._sizes.passages, first)])
        if about["passages"] != self._heard.hexdigest():
            self._heard = blake2b(digest_size=16)
            return 0
        best.filled = scores.shape[1]
        best.scores[:, : best.filled], best.rows[:, : best.filled] = scores, rows
        return first

    def write(self, best: _Best, first: int) -> None:
        """Note where the search stands, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        kept = {"scores": best.scores[:, : best.filled], "rows": best.rows[:, : best.filled]}
        about = {"key": self._key, "next": str(first), "passages": self._heard.hexdigest()}
        save_file({name: value.cpu().contiguous() for name, value in kept.items()}, beside, metadata=about)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(self._path)


def _bytes(matrix: Tensor) -> memoryview:
    """Return the numbers of a matrix as they are stored."""
    return matrix.detach().cpu().contiguous().view(torch.uint8).reshape(-1).numpy().data
