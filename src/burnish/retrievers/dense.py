"""Dense retrieval: the nearest vectors."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from burnish.errors import DataError, ModelError, RecipeError, near_miss
from burnish.models.approximate import is_installed
from burnish.models.matryoshka import require_dimensions, shortened
from burnish.models.nearest import FIRST, SAMPLE, ByWhole, Coding, Index, Nearest, missed, nearest, sampled
from burnish.models.precision import chosen_dtype
from burnish.models.store import StoredRows, VectorStore
from burnish.models.towers import BiEncoder, load_bi_encoder
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.run import locked, read_json, write_json, write_text
from burnish.text import TextFormat, fingerprint, text_key

BLOCK = 32768  # passages whose vectors reach the disk together
EXACT_UP_TO = 250_000  # passages, with `index: auto`
ENOUGH = 32  # questions in one search that pay for a check of the first of them against the exact search


class Dense(Retriever):
    """A bi-encoder: passages and questions as vectors; the nearest by exact search, among codes, or by an index."""

    model: str
    format: TextFormat | None = None  # None: the model's own
    vectors: Coding = "fp32"  # what is searched; the first hits are put into order by fp32 whatever it is
    rescore: int = Field(default=4, ge=1)  # times as many candidates as hits: of int8, binary and approximate search
    dimensions: int | None = Field(default=None, ge=1)  # the first numbers of each vector are searched; None: all
    index: Literal["auto", "exact", "hnsw", "ivf"] = "auto"  # auto: exact up to 250,000 passages, hnsw beyond

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.vectors == "binary" and self.index in ("hnsw", "ivf"):
            raise RecipeError(
                f"`index: {self.index}` holds vectors as fp32 or int8; binary vectors are searched with `index: exact` "
                "(a bit a number is read faster than a graph is walked)"
            )
        return self

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Encode the chunks whose vectors the cache does not hold: it keeps them whole, by model and by text.

        Raises:
            ModelError: the model's vectors have fewer dimensions than are to be searched.
        """
        encoder = _loaded(self, progress)
        store = VectorStore(cache / encoder.passages.fingerprint(), width=encoder.width)
        _encode(encoder, store, chunks, progress)
        searcher = _searcher(self, encoder, store, _by_text(_keys_by_id(encoder, chunks)), progress)
        _check(searcher, store.folder, progress)
        return searcher


class DenseIndex:
    """Passages that can be searched, added and removed, in a folder of their own; only new texts are encoded.

    index.json (the model, its fingerprint) · passages.json (id → key of its text) · FINGERPRINT/ (vectors by key, and
    an approximate index if there is one). After any changes the exact search finds what an index built anew would.
    """

    def __init__(self, folder: Path, dense: Dense, encoder: BiEncoder, progress: Progress) -> None:
        """Put the parts together; `open` reads them from a folder."""
        self.folder = folder
        self._dense, self._encoder, self._progress = dense, encoder, progress
        self._store = VectorStore(folder / encoder.passages.fingerprint(), width=encoder.width)
        self._keys = _read_keys(folder)
        self._searcher: _DenseSearcher | None = None

    @classmethod
    def open(cls, folder: Path, dense: Dense, *, progress: Progress = lambda *_: None) -> Self:
        """Open the index that stands in a folder, or begin one.

        Raises:
            ModelError: it was made with another model, or with another way of reading texts, or its vectors have
                fewer dimensions than are to be searched.
        """
        encoder = _loaded(dense, progress)
        mine = {"model": dense.model, "fingerprint": encoder.passages.fingerprint()}
        if (folder / "index.json").is_file():
            made = read_json(folder / "index.json")
            if made["fingerprint"] != mine["fingerprint"]:
                raise ModelError(
                    f"{folder}: this index was made with {made['model']} ({made['fingerprint']}), and not with "
                    f"{mine['model']} as it is now ({mine['fingerprint']}): weights or text format differ, and vectors "
                    "of two models cannot be compared. Open it with that model, or begin another folder"
                )
        else:
            write_json(folder / "index.json", mine)
        return cls(folder, dense, encoder, progress)

    @property
    def ids(self) -> list[str]:
        """The ids of all passages, in ascending order."""
        return sorted(self._keys)

    @property
    def notes(self) -> Mapping[str, int]:
        """How many passages were cut short, and what the chosen search misses."""
        searcher = self._current()
        _check(searcher, self._store.folder, self._progress)
        return searcher.notes

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Add passages, found from the next search on; one whose id is there already takes its place.

        Raises:
            RunError: another process is changing this index.
        """
        with locked(self.folder):
            self._store.refresh()
            _encode(self._encoder, self._store, chunks, self._progress)
            self._write({**_read_keys(self.folder), **_keys_by_id(self._encoder, chunks)})

    def remove(self, ids: Iterable[str]) -> None:
        """Remove passages, found no more from the next search on; their vectors stay, should they come back.

        Raises:
            DataError: the index holds no passage of such an id; nothing is removed then.
            RunError: another process is changing this index.
        """
        gone = set(ids)
        with locked(self.folder):
            self._store.refresh()
            keys = _read_keys(self.folder)
            for unknown in sorted(gone - keys.keys()):
                raise DataError(
                    f"{self.folder}: no passage {unknown!r} stands in this index.{near_miss(unknown, keys)}"
                )
            self._write({key: text for key, text in keys.items() if key not in gone})

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most k hits for each question, best first; equal scores in descending order of id."""
        return self._current().search(questions, k)

    def _current(self) -> "_DenseSearcher":
        """Return the searcher over the passages as they are now."""
        if self._searcher is None:
            self._searcher = _searcher(self._dense, self._encoder, self._store, _by_text(self._keys), self._progress)
        return self._searcher

    def _write(self, keys: dict[str, bytes]) -> None:
        write_text(self.folder / "passages.json", json.dumps({name: key.hex() for name, key in keys.items()}))
        self._keys, self._searcher = keys, None


@dataclass
class _DenseSearcher:
    """Equal passages are one row: a matrix product may round equal columns differently, and they would not tie."""

    notes: dict[str, int]
    encoder: BiEncoder
    vectors: StoredRows  # whole
    nearest: Nearest
    dimensions: int  # that are searched
    ids: dict[bytes, list[str]]  # by the key of their text, in the order of the rows
    checks: str  # what the search is called where it may miss something
    checked: bool = False  # with questions

    def __post_init__(self) -> None:
        self._rows = [*self.ids.values()]

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        if not questions:
            return []
        form = self.encoder.format
        asked = [form.query(text) for text in questions]
        queries, _ = self.encoder.queries.encode(asked, max_tokens=form.query_tokens)
        if self.checks and not self.checked and len(questions) >= ENOUGH:
            self.notes |= _missed(self, queries[:SAMPLE], "questions")
            self.checked = True
        scores, rows = self.nearest.search(shortened(queries, self.dimensions), k)
        return [self._hits(best, found, k) for best, found in zip(scores.tolist(), rows.tolist(), strict=True)]

    def _hits(self, scores: list[float], rows: list[int], k: int) -> list[Hit]:
        hits = [Hit(key, score) for score, row in zip(scores, rows, strict=True) if row >= 0 for key in self._rows[row]]
        return sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)[:k]


def _loaded(dense: Dense, progress: Progress) -> BiEncoder:
    progress("loading the encoder", 0, 1)
    encoder = load_bi_encoder(dense.model, dtype=chosen_dtype())
    encoder.read_by(dense.format or encoder.format)
    require_dimensions([dense.dimensions] if dense.dimensions else [], encoder.width, dense.model)
    return encoder


def _searcher(
    dense: Dense, encoder: BiEncoder, store: VectorStore, ids: dict[bytes, list[str]], progress: Progress
) -> _DenseSearcher:
    """Make the search ready over the passages whose ids stand by the keys of their texts."""
    keys = [*ids]
    notes = {f"passages cut at {encoder.format.passage_tokens} tokens": store.cut(keys)}
    index, without = _chosen(dense, len(keys))
    if without:
        notes["passages searched exactly, since faiss is not installed (`pip install 'burnish[faiss]'`)"] = len(keys)
    vectors = store.rows(keys)
    if (index, dense.vectors) != ("exact", "fp32"):
        progress(f"indexing ({index}, {dense.vectors})", 0, len(keys))
    width = dense.dimensions or encoder.width
    folder = store.folder if width == encoder.width else store.folder / f"first-{width}"
    found = nearest(
        vectors.shortened(width), keys, coding=dense.vectors, index=index, times=dense.rescore, folder=folder
    )
    checks = [f"the first {width} of {encoder.width} dimensions"] if width < encoder.width else []
    if (index, dense.vectors) != ("exact", "fp32"):
        checks.append(f"{index if index != 'exact' else ''} {dense.vectors} (rescore {dense.rescore})".strip())
    notes = {reason: count for reason, count in notes.items() if count}
    return _DenseSearcher(notes, encoder, vectors, found, width, ids, ", ".join(checks) if keys else "")


def _check(searcher: _DenseSearcher, folder: Path, progress: Progress) -> None:
    """Note what the search misses for a sample of the passages; the folder keeps it, for the check costs a search."""
    if not searcher.checks:
        return
    kept = folder / "checked" / f"{fingerprint(searcher.checks, *(key.hex() for key in searcher.ids))}.json"
    if not kept.is_file():
        progress(f"checking {searcher.checks} against exact search", 0, 1)
        write_json(kept, _missed(searcher, sampled(searcher.vectors), "passages"))
    searcher.notes |= read_json(kept)


def _chosen(dense: Dense, passages: int) -> tuple[Index, bool]:
    """Return the index for so many passages, and whether it is exact for want of faiss."""
    if dense.index != "auto":
        return dense.index, False
    if passages <= EXACT_UP_TO or dense.vectors == "binary":
        return "exact", False
    return ("hnsw", False) if is_installed() else ("exact", True)


def _missed(searcher: _DenseSearcher, queries: Tensor, what: str) -> dict[str, int]:
    """Return a note of what a search misses of the first hits of the exact one by whole vectors."""
    search, vectors = searcher.nearest, searcher.vectors
    if searcher.dimensions < vectors.shape[1]:
        search = ByWhole(search, searcher.dimensions, vectors)
    count, of = missed(search, vectors, queries)
    first = f"the first {FIRST} of each of {len(queries)} {what}"
    return {f"nearest passages missed by {searcher.checks}, of {of} ({first})": count}


def _encode(encoder: BiEncoder, store: VectorStore, chunks: Sequence[Chunk], progress: Progress) -> None:
    """Encode the texts that have no vector, block by block: a killed run loses one block, and memory stays bounded."""
    form = encoder.format
    ordered = sorted(chunks, key=lambda chunk: chunk.id, reverse=True)  # the same batches whatever theirs was
    texts = dict.fromkeys(form.passage(chunk.title, chunk.text) for chunk in ordered)
    new = [(key, text) for text in reversed(texts) if (key := text_key(text)) not in store]
    for first in range(0, len(new), BLOCK):
        keys = [key for key, _ in new[first : first + BLOCK]]
        block = [text for _, text in new[first : first + BLOCK]]

        def told(done: int, _: int, first: int = first) -> None:
            progress("encoding passages", first + done, len(new))

        ids, _ = encoder.passages.tokenize(block, max_tokens=form.passage_tokens)
        store.add(keys, encoder.passages.encode_ids(ids, progress=told), ids.cut)


def _keys_by_id(encoder: BiEncoder, chunks: Iterable[Chunk]) -> dict[str, bytes]:
    return {chunk.id: text_key(encoder.format.passage(chunk.title, chunk.text)) for chunk in chunks}


def _by_text(keys: Mapping[str, bytes]) -> dict[bytes, list[str]]:
    """Return the ids of each text in descending order, the texts in ascending order of their last id.

    Of equal scores the later row comes first, so hits are in descending order of id.
    """
    ids: dict[bytes, list[str]] = {}
    for name in sorted(keys, reverse=True):
        ids.setdefault(keys[name], []).append(name)
    return dict(reversed(ids.items()))


def _read_keys(folder: Path) -> dict[str, bytes]:
    path = folder / "passages.json"
    return {name: bytes.fromhex(key) for name, key in read_json(path).items()} if path.is_file() else {}
