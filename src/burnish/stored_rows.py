"""What a table too large for memory leaves there: rows on the disk, and ids by a few bytes each."""

from array import array
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from burnish.sequences import Lazy, Ragged, first_equal
from burnish.spec import Spec
from burnish.text import text_key

R = TypeVar("R", bound=Spec)


class RowsOnDisk(Lazy[R]):
    """Rows of one kind, added one by one, that are too many for memory: each is read when it is asked for."""

    def __init__(self, record: type[R], rows: Iterable[R] = ()) -> None:
        """Begin with these rows."""
        self._record, self._json = record, Ragged("B")
        for row in rows:
            self.append(row)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._json)

    def append(self, row: R) -> None:
        """Add a row."""
        self._json.append(row.model_dump_json().encode())

    def at(self, place: int) -> R:
        """Read a row."""
        return self._record.model_validate_json(self._json[place].tobytes())

    def json(self) -> Iterator[str]:
        """Yield each row as the JSON that it is kept as."""
        return (row.tobytes().decode() for row in self._json)


class Ids:
    """The ids of rows and the numbers of their places, to find those that come twice without holding them."""

    def __init__(self) -> None:
        self._keys, self._numbers = bytearray(), array("q")

    def add(self, name: str, number: int) -> None:
        """Take in the id of the next row."""
        self._keys += text_key(name)
        self._numbers.append(number)

    def twice(self) -> list[tuple[int, int, int]]:
        """Return which rows, counted from 0, have the id of an earlier one: their own number, and the earlier one's."""
        first = first_equal(self._keys)
        rows = np.flatnonzero(first != np.arange(len(first)))
        return [(row, self._numbers[row], self._numbers[first[row]]) for row in rows.tolist()]
