"""Vectors in a file: written block by block, read block by block, never whole in memory."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from burnish.errors import DataError
from burnish.run import read_json, write_json

NAME = "vectors"  # of the tensor in the file, which `safetensors` reads as well
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LONGEST_HEADER = 100_000_000  # bytes: safetensors' own limit


class Vectors(Protocol):
    """What can be searched: a matrix of vectors whose rows can be cut out. A Tensor is one, a VectorFile another."""

    @property
    def shape(self) -> torch.Size:
        """(rows, width)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """How a number is stored."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Return the rows between two places as a matrix."""
        ...


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A matrix in a safetensors file. Rows are mapped into memory when they are asked for, and only as long."""

    path: Path
    shape: torch.Size
    dtype: torch.dtype
    start: int  # byte of the file where the numbers begin

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read what the file says of itself.

        Raises:
            DataError: there is no such file, or it holds no matrix called `vectors` in fp32, fp16 or bf16.
        """
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            about = header[NAME]
            dtype, (rows, width), (first, last) = TYPES[about["dtype"]], about["shape"], about["data_offsets"]
        except OSError as error:
            raise DataError(f"{path}: this file cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: this is not a safetensors file with a matrix {NAME!r} in {', '.join(TYPES)}"
            ) from error
        size, needed = path.stat().st_size, 8 + length + last
        if size < needed or last - first != rows * width * dtype.itemsize:
            raise DataError(f"{path}: the file is cut short: {needed:,} bytes are needed (found {size:,})")
        return cls(path, torch.Size((rows, width)), dtype, 8 + length + first)

    def __getitem__(self, rows: slice) -> Tensor:
        """Return the rows between two places, mapped: they are read when they are used."""
        first, last, step = rows.indices(self.shape[0])
        count, width = max(last - first, 0), self.shape[1]
        if not count or not width:
            return torch.empty(count, width, dtype=self.dtype)
        line = width * self.dtype.itemsize
        mapped = np.memmap(self.path, np.uint8, "c", offset=self.start + first * line, shape=(count * line,))
        aligned = torch.from_numpy(mapped).clone()  # from here on the file is let go
        return aligned.view(self.dtype).view(count, width)[::step]


def write_in_blocks(
    path: Path,
    make: Callable[[int, int], tuple[Tensor, int]],
    *,
    shape: tuple[int, int],
    dtype: torch.dtype,
    block: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> int:
    """Write a matrix block by block and return the sum of what `make` counted; what was killed goes on.

    make: given the first row of a block and the row after its last, its vectors and a count of anything. After each
    block the file's rows are on the disk and noted beside it, in PATH.part and PATH.part.json; the whole file then
    takes its name. `path` must name what is written: other vectors need another path.
    """
    beside, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    head = _header(shape, dtype)
    done, counted = _done(beside, note, head, line=shape[1] * dtype.itemsize)
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("r+b" if done else "wb") as file:
        file.truncate(len(head) + done * shape[1] * dtype.itemsize if done else 0)
        if not done:
            file.write(head)
        file.seek(0, os.SEEK_END)
        progress(done, shape[0])
        for first in range(done, shape[0], block):
            last = min(first + block, shape[0])
            rows, count = make(first, last)
            counted += count
            file.write(rows.detach().cpu().to(dtype).contiguous().view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
            write_json(note, {"rows": last, "counted": counted})
            progress(last, shape[0])
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    note.unlink(missing_ok=True)
    return counted


def _done(beside: Path, note: Path, head: bytes, *, line: int) -> tuple[int, int]:
    """Return how many rows of an earlier attempt stand, and what was counted in them; none where anything differs."""
    if not beside.is_file() or not note.is_file():
        return 0, 0
    known = read_json(note)
    with beside.open("rb") as file:
        same = file.read(len(head)) == head
    whole = beside.stat().st_size >= len(head) + known["rows"] * line
    return (known["rows"], known["counted"]) if same and whole else (0, 0)


def _header(shape: Sequence[int], dtype: torch.dtype) -> bytes:
    """Return the head of a safetensors file that holds this matrix alone, padded so that the numbers are aligned."""
    name = next(name for name, known in TYPES.items() if known == dtype)
    size = shape[0] * shape[1] * dtype.itemsize
    text = json.dumps({NAME: {"dtype": name, "shape": list(shape), "data_offsets": [0, size]}}, separators=(",", ":"))
    text += " " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text.encode()
