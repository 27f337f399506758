"""The passages that a joint model searches: their texts, and their vectors beside it."""

import copy
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from burnish.models.cached import Side, cached_vectors
from burnish.models.encode import Encoder, tokens_at_once
from burnish.models.fixed import FixedPassages, encode_fixed
from burnish.models.joint import Joint
from burnish.models.refresh import Refresh, Stale
from burnish.models.topk import top_k
from burnish.records import Chunk
from burnish.sequences import View


class Passages:
    """Passages by place; of those that read alike for the retriever one is found, the first.

    chunks, texts: by place; texts are token ids. vectors: (places, width), unit length, fp32. first: the same, before
    the first step. stale: how the vectors follow where their tower moves.
    """

    def __init__(
        self, chunks: Sequence[Chunk], texts: Sequence[Sequence[int]], fixed: FixedPassages, refresh: Refresh | None
    ) -> None:
        """Take all chunks, the token ids that the retriever reads of each, and their vectors."""
        rows = fixed.rows(texts).tolist()
        first: dict[int, int] = {}
        for number, row in enumerate(rows):
            first.setdefault(row, number)
        numbers = array("q", (first[row] for row in range(len(fixed.vectors))))
        self.chunks = [chunks[number] for number in numbers]
        self.texts: Sequence[Sequence[int]] = View(texts, numbers)
        self.first = fixed.vectors
        self.stale = Stale(fixed.vectors.clone(), self.texts, refresh) if refresh else None
        self._places = {chunk.id: row for chunk, row in zip(chunks, rows, strict=True)}

    @property
    def vectors(self) -> Tensor:
        """The vectors that are searched."""
        return self.stale.vectors if self.stale else self.first

    def now(self, encoder: Encoder) -> "Passages":
        """Return the same with vectors as the encoder makes them now, where it may have moved."""
        if not self.stale:
            return self
        found = copy.copy(self)
        found.first = encoder.encode_ids(self.texts) if self.stale.moved else self.first
        found.stale = None
        return found

    def places(self, ids: Sequence[str]) -> list[int]:
        """Return where these passages stand, each once; those that are not here are left out."""
        return [*dict.fromkeys(self._places[key] for key in ids if key in self._places)]

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, k): the places of the nearest passages, best first. queries: (queries, width)."""
        return top_k(queries.float(), self.vectors, k)[1]


def passages_of(
    model: Joint,
    chunks: Callable[[], Sequence[Chunk]],
    *,
    folder: Path,
    refresh: Refresh | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Passages:
    """Return the passages that are kept beside a model, encoded at the first call by what its folder lacks.

    refresh: where the passages' tower is trained.
    """
    if model not in _kept:
        tower, found = model.retriever.passages.to(next(model.parameters()).device), chunks()
        form = tower.format
        read = [form.passage(chunk.title, chunk.text) for chunk in found]
        texts, _ = tower.tokenize(read, max_tokens=form.passage_tokens)
        fixed, _ = encode_fixed(tower, lambda: texts, folder=folder, progress=progress)
        _kept[model] = Passages(found, texts, fixed, refresh)
    return _kept[model]


_kept: "WeakKeyDictionary[Joint, Passages]" = WeakKeyDictionary()


def fresh_scores(
    model: Joint,
    passages: Passages,
    queries: Sequence[Sequence[int]],
    places_rk: Sequence[Sequence[int]],
    *,
    pass_tokens: int,
) -> tuple[Tensor, Tensor]:
    """Return (questions, passages) cosines by the towers as they are now, and which are there: rows may have fewer.

    Gradients flow into the towers that move. queries: token ids. Each different passage is encoded once, in passes of
    which `pass_tokens` keep their activations (`cached_vectors`); where its tower stands still, its vector is there.
    """
    retriever = model.retriever
    asked = retriever.queries.embed(queries)
    unique = sorted({place for row in places_rk for place in row})
    if passages.stale:
        side = Side(retriever.passages.embed, [passages.texts[place] for place in unique])
        at_once = tokens_at_once(retriever.passages)
        vectors = cached_vectors([side], pass_tokens=pass_tokens, at_once=at_once, device=asked.device)[0]
    else:
        vectors = passages.vectors[unique].to(asked.device)
    number = {place: row for row, place in enumerate(unique)}
    k = max(map(len, places_rk))
    there_rk = torch.tensor([[column < len(row) for column in range(k)] for row in places_rk])
    padded = torch.tensor([[number[place] for place in (*row, *[unique[0]] * (k - len(row)))] for row in places_rk])
    return (vectors[padded.to(asked.device)] * asked[:, None]).sum(dim=2), there_rk.to(asked.device)
