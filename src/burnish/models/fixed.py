"""Passages whose encoder stands still: encoded once, kept on the disk, and all of them there for every query."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from burnish.models.encode import Encoder
from burnish.models.pair_loss import PairBatch
from burnish.models.store import VectorStore
from burnish.models.token_ids import ids_key

Texts = Iterable[Sequence[int]]  # token ids
BLOCK = 8192  # passages whose vectors reach the disk together


class FixedPassages:
    """The vectors of passages that do not move, as one matrix, and where in it each of them stands.

    vectors: (passages, width), unit length, fp32, without gradient; a search (`topk.top_k`) and a loss read it alike.
    """

    def __init__(self, vectors: Tensor, rows: Mapping[bytes, int]) -> None:
        """Take the matrix, and of each passage its row by the key of its token ids (`ids_key`)."""
        self.vectors = vectors
        self._rows = rows

    def rows(self, texts: Texts) -> Tensor:
        """Return the rows of these passages, each of which must be here."""
        return torch.tensor([self._rows[ids_key(ids)] for ids in texts], dtype=torch.long)

    def among(self, batch: PairBatch) -> PairBatch:
        """Return the batch with the places of its passages among all of these, and not among its own.

        What is never wrong for a query is known wherever it stands, so that no answer is a negative of its query.
        """
        rows = self.rows(batch.passages)
        queries = torch.tensor([query for query, _ in batch.elsewhere], dtype=torch.long)
        further = torch.stack([queries, self.rows(text for _, text in batch.elsewhere)], dim=1)
        own = torch.stack([batch.known[:, 0], rows[batch.known[:, 1]]], dim=1)
        return replace(batch, candidates_rc=rows[batch.candidates_rc], known=torch.cat([own, further]))


def encode_fixed(
    encoder: Encoder,
    texts: Callable[[], Texts],
    *,
    folder: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[FixedPassages, int]:
    """Return all different passages, and how many were encoded for it: those whose vectors the folder did not hold.

    texts: gives the passages from the first on, twice. folder: each encoder has a folder of its own in it, named by its
    weights and its way of reading texts. Vectors reach the disk block by block; what was killed goes on from there.
    progress: called with how many passages are encoded, and how many are to be.
    """
    store = VectorStore(folder / encoder.fingerprint(), width=encoder.width)
    rows: dict[bytes, int] = {}
    for ids in texts():
        rows.setdefault(ids_key(ids), len(rows))
    missing = sum(key not in store for key in rows)
    done = 0
    for keys, block in _blocks(store, texts()) if missing else ():

        def told(count: int, _: int, done: int = done) -> None:
            progress(done + count, missing)

        store.add(keys, encoder.encode_ids(block, progress=told), [False] * len(keys))
        done += len(keys)
    return FixedPassages(store.rows([*rows])[: len(rows)], rows), missing


def keep_fixed(model: nn.Module, passages: FixedPassages) -> None:
    """Keep passages beside a model that queries them; nothing of them is saved with it."""
    _kept[model] = passages


def fixed_of(model: nn.Module) -> FixedPassages:
    """Return the passages that are kept beside a model, where its weights are."""
    found = _kept[model]
    found.vectors = found.vectors.to(next(model.parameters()).device)
    return found


_kept: WeakKeyDictionary[nn.Module, FixedPassages] = WeakKeyDictionary()


def _blocks(store: VectorStore, texts: Texts) -> Iterator[tuple[list[bytes], list[Sequence[int]]]]:
    """Yield the passages without a vector, some at a time, each once."""
    waiting: dict[bytes, Sequence[int]] = {}
    for ids in texts:
        key = ids_key(ids)
        if key in store or key in waiting:
            continue
        waiting[key] = ids
        if len(waiting) == BLOCK:
            yield [*waiting], [*waiting.values()]
            waiting = {}
    if waiting:
        yield [*waiting], [*waiting.values()]
