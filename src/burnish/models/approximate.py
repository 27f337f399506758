"""Approximate nearest neighbours by FAISS: a graph (HNSW) or cells (IVF), kept on disk, extended and pruned."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import sqrt
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.errors import ModelError
from burnish.models.store import StoredRows
from burnish.run import new_folder
from burnish.text import KEY

Kind = Literal["hnsw", "ivf"]

LINKS = 32  # of a passage in the graph, as FAISS recommends; twice as many in its lowest layer
BREADTH = 128  # passages that a graph keeps in view while it is built and while it is searched
CELLS = 4  # times the square root of the passages: cells of IVF, as FAISS recommends for up to a million
SEEN = 16  # one cell of so many is looked through for each question, and at least
FEWEST_SEEN = 8
BLOCK = 16384  # passages that are added at a time
ALIVE = 2 / 3  # of an index must belong to the corpus: what was removed still costs its way through the graph
WORTH_WRITING = 1 / 20  # of the corpus was added: less is added again at each opening, a millisecond each


@dataclass(slots=True)
class Approximate:
    """An index of FAISS over the rows of a corpus; what was removed from the corpus stays inside and is passed over."""

    kind: Kind
    index: Any
    keys: list[bytes]  # of the texts in the order in which they were added
    _rows: NDArray[np.int64] = field(init=False)  # for each of `keys` its row in the corpus, -1 where it has none
    _alive: Any = field(init=False)

    @classmethod
    def open(cls, folder: Path, kind: Kind, keys: Sequence[bytes], vectors: StoredRows, *, coded: bool) -> Self:
        """Return the index of a corpus: the one in the folder, an earlier one extended, or a new one.

        keys: of the corpus's texts; vectors: theirs. coded: a byte a number inside the index, and not four.
        An earlier one serves where two thirds of it belong to the corpus and hold half of it. It is then replaced on
        the disk, if much was added.

        Raises:
            ModelError: faiss is not installed.
        """
        faiss = _faiss()
        name = f"{kind}-{'int8' if coded else 'fp32'}"
        earlier = _nearest_to(folder, name, keys)
        found: Any = faiss.read_index(str(earlier / "index.faiss")) if earlier else None
        if earlier and (kind == "hnsw" or 2 * found.nlist >= _cells(len(keys))):  # cells do not grow with the corpus
            made = cls(kind, found, _read_keys(earlier))
        else:
            with _one_thread(faiss):
                made = cls(kind, _empty(faiss, kind, vectors, coded=coded), [])
        known = set(made.keys)
        new = [row for row, key in enumerate(keys) if key not in known]
        made._add(faiss, keys, vectors, new)
        if not earlier or len(new) > WORTH_WRITING * len(keys):
            digest = sha256(b"".join(sorted(made.keys))).hexdigest()[:16]
            with new_folder(folder / f"{name}-{digest}") as beside:
                faiss.write_index(made.index, str(beside / "index.faiss"))
                (beside / "keys").write_bytes(b"".join(made.keys))
            if earlier and earlier.name != f"{name}-{digest}":
                shutil.rmtree(earlier, ignore_errors=True)
        made._point_at(faiss, keys)
        return made

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """Return (queries, k) rows of the corpus, near ones first; -1 where the index found no more."""
        if not k:
            return torch.empty(len(queries), 0, dtype=torch.long)
        faiss = _faiss()
        if self.kind == "hnsw":
            how = faiss.SearchParametersHNSW(sel=self._alive, efSearch=max(BREADTH, k))
        else:
            how = faiss.SearchParametersIVF(sel=self._alive, nprobe=max(FEWEST_SEEN, self.index.nlist // SEEN))
        with _threads(faiss, torch.get_num_threads()):
            _, found = self.index.search(queries.float().numpy(), k, params=how)
        return torch.from_numpy(np.where(found < 0, -1, self._rows[found]))

    def _add(self, faiss: Any, keys: Sequence[bytes], vectors: StoredRows, new: Sequence[int]) -> None:
        with _one_thread(faiss):  # several would link in an order of their own each time
            for first in range(0, len(new), BLOCK):
                rows = new[first : first + BLOCK]
                self.index.add(vectors.at(torch.tensor(rows)).numpy())
                self.keys += [keys[row] for row in rows]

    def _point_at(self, faiss: Any, keys: Sequence[bytes]) -> None:
        """Note which row of the corpus each place of the index stands for."""
        rows = {key: row for row, key in enumerate(keys)}
        self._rows = np.fromiter((rows.get(key, -1) for key in self.keys), np.int64, len(self.keys))
        self._alive = faiss.IDSelectorBitmap(np.packbits(self._rows >= 0, bitorder="little"))


def is_installed() -> bool:
    """Tell whether faiss can be imported."""
    try:
        _faiss()
    except ModelError:
        return False
    return True


def _faiss() -> Any:
    """Import faiss.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ModelError(
            "hnsw and ivf indexes need faiss, which is not installed: `pip install 'burnish[faiss]'`, "
            "or search exactly with `index: exact`"
        ) from error
    return faiss


def _empty(faiss: Any, kind: Kind, vectors: StoredRows, *, coded: bool) -> Any:
    """Return an index that has learned what it must of the vectors, and holds none."""
    rows, width = vectors.shape
    product, byte = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_8bit
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(width, byte, LINKS, product) if coded else faiss.IndexHNSWFlat(width, LINKS, product)
        index.hnsw.efConstruction = BREADTH
        sample = vectors.at(_spread(rows, 65536)) if coded else None
    else:
        cells = _cells(rows)
        middle = faiss.IndexFlatIP(width)
        index = (
            faiss.IndexIVFScalarQuantizer(middle, width, cells, byte, product)
            if coded
            else faiss.IndexIVFFlat(middle, width, cells, product)
        )
        sample = vectors.at(_spread(rows, 64 * cells))
    if sample is not None:
        index.train(sample.numpy())
    return index


def _cells(rows: int) -> int:
    """Return into how many cells so many rows are put; k-means wants 39 of them for each."""
    return max(1, min(round(CELLS * sqrt(rows)), rows // 39))


def _spread(rows: int, count: int) -> Tensor:
    """Return at most so many rows, evenly spread."""
    return torch.linspace(0, rows - 1, min(rows, count), dtype=torch.float64).round().long()


def _nearest_to(folder: Path, name: str, keys: Sequence[bytes]) -> Path | None:
    """Return the index on disk that shares most with a corpus, if it shares enough."""
    wanted, most = set(keys), 0
    best: Path | None = None
    for path in sorted(folder.glob(f"{name}-*")):
        known = _read_keys(path)
        shared = sum(key in wanted for key in known)
        if shared > most and shared >= ALIVE * len(known) and shared >= len(wanted) / 2:
            best, most = path, shared
    return best


def _read_keys(folder: Path) -> list[bytes]:
    joined = (folder / "keys").read_bytes()
    return [joined[first : first + KEY] for first in range(0, len(joined), KEY)]


@contextmanager
def _threads(faiss: Any, count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _one_thread(faiss: Any) -> Any:
    return _threads(faiss, 1)
