"""Vectors that a model has made, in a folder: each text once, whichever corpus it came from."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from burnish.errors import DataError
from burnish.models.vectors import NAME, VectorFile
from burnish.text import KEY


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Some vectors of a store, in an order of their own; they are read from the disk when they are asked for.

    shape: where its width is less than the files', of each vector the first numbers are read, made unit length again.
    """

    files: tuple[VectorFile, ...]
    firsts: NDArray[np.int64]  # place of each file's first vector among those of all files
    places: NDArray[np.int64]  # (rows,), where each vector stands among those of all files
    shape: torch.Size

    @property
    def dtype(self) -> torch.dtype:
        """Vectors are stored in fp32."""
        return torch.float32

    def shortened(self, dimensions: int) -> "StoredRows":
        """Return the same rows, cut to their first numbers when they are read, and made unit length again."""
        return replace(self, shape=torch.Size((self.shape[0], dimensions)))

    def __getitem__(self, rows: slice) -> Tensor:
        """Return the rows between two places as a matrix."""
        return self._read(self.places[rows])

    def at(self, rows: Tensor) -> Tensor:
        """Return the vectors of these rows, of any shape, with one more dimension: (…, width)."""
        return self._read(self.places[rows.reshape(-1).numpy()]).view(*rows.shape, self.shape[1])

    def _read(self, places: NDArray[np.int64]) -> Tensor:
        found = np.empty((len(places), self.shape[1]), np.float32)
        holders = self.firsts.searchsorted(places, side="right") - 1
        for number in np.unique(holders):
            file, here = self.files[number], holders == number
            mapped = np.memmap(file.path, np.float32, "r", offset=file.start, shape=tuple(file.shape))
            found[here] = mapped[places[here] - self.firsts[number], : self.shape[1]]
        vectors = torch.from_numpy(found)
        cut = any(file.shape[1] > self.shape[1] for file in self.files)
        return functional.normalize(vectors, dim=-1) if cut else vectors


class VectorStore:
    """A folder of files, each with vectors in fp32, the keys of their texts, and whether each text was cut short.

    Files are added and never changed, so several processes may read and add at a time; where two encoded the same text,
    the older file counts. One store belongs to one model and one way of reading texts.
    """

    def __init__(self, folder: Path, *, width: int) -> None:
        """Read which texts the folder holds; it need not exist yet.

        Raises:
            DataError: a file is damaged, or holds vectors of another width.
        """
        self.folder = folder
        self.width = width
        self._files: list[VectorFile] = []
        self._places: dict[bytes, int] = {}  # key → where its vector stands among those of all files
        self._cut: list[NDArray[np.bool_]] = []
        self.refresh()

    def __contains__(self, key: bytes) -> bool:
        """Tell whether the text of this key has a vector here."""
        return key in self._places

    def refresh(self) -> None:
        """Read which texts other processes have added since.

        Raises:
            DataError: a file is damaged, or holds vectors of another width.
        """
        known = {file.path for file in self._files}
        for path in sorted(self.folder.glob("[0-9]*.safetensors")):
            if path not in known:
                self._take_in(path)

    def add(self, keys: Sequence[bytes], vectors: Tensor, cut: Sequence[bool]) -> None:
        """Write the vectors (keys, width) of further texts, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name.split("-")[0]) for path in self.folder.glob("[0-9]*.safetensors")]
        path = self.folder / f"{max(numbers, default=0) + 1:06d}-{uuid4().hex[:8]}.safetensors"
        beside = path.with_name(f".{path.name}")
        named = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(len(keys), KEY)
        try:
            save_file({NAME: vectors.float().contiguous(), "keys": named, "cut": torch.tensor(cut)}, beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        self._take_in(path)

    def rows(self, keys: Sequence[bytes]) -> StoredRows:
        """Return the vectors of these texts in this order; each must be here."""
        sizes = [file.shape[0] for file in self._files]
        firsts = np.array([0, *accumulate(sizes)][: len(sizes)], np.int64)
        places = np.fromiter((self._places[key] for key in keys), np.int64, len(keys))
        return StoredRows(tuple(self._files), firsts, places, torch.Size((len(keys), self.width)))

    def cut(self, keys: Iterable[bytes]) -> int:
        """Return how many of these texts were cut short before they were encoded."""
        cut = np.concatenate([*self._cut, np.zeros(0, bool)])
        return sum(bool(cut[self._places[key]]) for key in keys)

    def _take_in(self, path: Path) -> None:
        file = VectorFile.open(path)
        if file.shape[1] != self.width:
            raise DataError(
                f"{path}: vectors of {file.shape[1]} numbers stand here, and this model's have {self.width}: "
                "the folder belongs to another model"
            )
        try:
            with safe_open(path, framework="pt") as opened:
                keys, cut = opened.get_tensor("keys"), opened.get_tensor("cut")
        except SafetensorError as error:
            raise DataError(
                f"{path}: this file is damaged ({error}); remove it, and its texts are encoded anew"
            ) from error
        first = sum(len(known) for known in self._cut)
        joined = keys.numpy().tobytes()
        for row in range(file.shape[0]):
            self._places.setdefault(joined[row * KEY : (row + 1) * KEY], first + row)
        self._files.append(file)
        self._cut.append(cut.numpy())
