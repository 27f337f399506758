"""Sequences that hold no copy of what they give: rows on the disk, a part of others, several as one."""

import os
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from tempfile import TemporaryFile
from typing import IO, Any, Literal, TypeVar, overload
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from burnish.cache import cache_folder
from burnish.errors import DataError

T = TypeVar("T")

IN_MEMORY = 1 << 24  # bytes of numbers that stay in memory; those before them go to the disk


class Lazy(Sequence[T]):
    """A sequence whose members are made when they are asked for; a slice of it is one too."""

    @abstractmethod
    def at(self, place: int) -> T:
        """Return the member at a place, counted from 0; it is there."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        """Return a member, or a view of some of them."""
        places = range(len(self))[place]
        return self.at(places) if isinstance(places, int) else View(self, places)


class StoredItems(Lazy[T]):
    """Items of a training that are read when a step needs them; tokens: of each, known without reading it."""

    tokens: Sequence[int]


class View(Lazy[T]):
    """Some members of another sequence."""

    def __init__(self, of: Sequence[T], places: Sequence[int]) -> None:
        """Show the members at these places."""
        self._of, self._places = of, places

    def __len__(self) -> int:
        """Return how many members are shown."""
        return len(self._places)

    def at(self, place: int) -> T:
        """Return the member at a place of the view."""
        return self._of[self._places[place]]


class Joined(Lazy[T]):
    """Several sequences as one, each behind the one before; they do not change their lengths any more."""

    def __init__(self, parts: Iterable[Sequence[T]]) -> None:
        """Put the parts together; those of a part that is joined itself are taken over."""
        self.parts: list[Sequence[T]] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Joined) else [part]
        self._ends = [*accumulate(map(len, self.parts))]

    def __len__(self) -> int:
        """Return how many members all parts have."""
        return self._ends[-1] if self._ends else 0

    def at(self, place: int) -> T:
        """Return the member at a place among those of all parts."""
        number = bisect_right(self._ends, place)
        return self.parts[number][place - (self._ends[number - 1] if number else 0)]


class Ragged(Lazy["array[Any]"]):
    """Rows of numbers, each of any length, added one by one; more than 16 MB of them go to the disk.

    There they are in a file without a name in the user's cache folder, which ends with the process.
    """

    def __init__(self, kind: Literal["B", "i", "q", "d"]) -> None:
        """Begin without a row; kind: of a number, as `array` calls it."""
        self._recent = array(kind)
        self._ends = array("q", [0])
        self._written = 0  # numbers on the disk
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._ends) - 1

    def append(self, row: Iterable[Any]) -> None:
        """Add a row.

        Raises:
            DataError: the cache folder cannot be written.
        """
        self._recent.extend(row)
        self._ends.append(self._written + len(self._recent))
        if len(self._recent) * self._recent.itemsize > IN_MEMORY:
            self._write()

    def length(self, place: int) -> int:
        """Return how many numbers a row has."""
        return self._ends[place + 1] - self._ends[place]

    def at(self, place: int) -> "array[Any]":
        """Return a row."""
        first, end = self._ends[place], self._ends[place + 1]
        if first >= self._written:
            return self._recent[first - self._written : end - self._written]
        assert self._file is not None
        size, found = self._recent.itemsize, array(self._recent.typecode)
        found.frombytes(os.pread(self._file.fileno(), (end - first) * size, first * size))
        return found

    def _write(self) -> None:
        if self._file is None:
            folder = cache_folder()
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = TemporaryFile(dir=folder)  # noqa: SIM115 (open for as long as this lives)
            except OSError as error:
                raise DataError(
                    f"{folder}: what is too large for memory cannot be kept here: {error.strerror or error}; set "
                    "BURNISH_CACHE to a folder that can be written"
                ) from error
            finalize(self, self._file.close)
        self._recent.tofile(self._file)
        self._file.flush()
        self._written += len(self._recent)
        self._recent = array(self._recent.typecode)


def first_equal(digests: bytes | bytearray) -> NDArray[np.int64]:
    """Return for each value the place of the first that equals it: its own, where none does before.

    digests: of all values, one behind the other, `text.KEY` bytes each.
    """
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: of equal values the first stays the first
    ordered = halves[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    found = np.empty(len(order), np.int64)
    found[order] = order[begins][begins.cumsum() - 1]
    return found
