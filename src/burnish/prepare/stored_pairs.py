"""Rows of pairs, tokenized once: in memory while they are few, else on the disk, and read one by one."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from burnish.models.token_ids import TokenRows, ids_key
from burnish.prepare.pair_items import Ids, PairItem
from burnish.records import Pair
from burnish.sequences import Ragged, StoredItems, first_equal
from burnish.text import normal, text_key

Read: TypeAlias = Callable[[Sequence[str]], TokenRows]  # texts, as rows have them, in

ROWS_AT_ONCE = 4096  # that are tokenized together
MEMO = 1 << 18  # passages whose numbers are remembered; one that comes again later is tokenized and kept again


class PairItems(StoredItems[PairItem]):
    """Rows of pairs, tokenized: in memory while they are few, else on the disk, and read one by one.

    Passages that read alike are one: the first counts, and what answers a query in any row is in none a negative of it.
    What stays in memory of a row are some numbers: about 70 bytes, and 24 more for each different passage.

    cut_queries, cut_passages: how many queries, and different passages, were cut. answered: how many negatives were
    left out, since they answer the query by another row or repeat it. bare: how many rows were left out.
    """

    def __init__(
        self,
        rows: Iterable[Pair],
        *,
        queries: Read,
        passages: Read,
        compared: Callable[[Sequence[int]], bool] = lambda _ids: True,
        repeated: bool = False,
    ) -> None:
        """Tokenize the rows, some at a time.

        queries, passages: tokenize the texts of a side. compared: whether a passage has a token that counts; those
        without are left out, and rows without a positive then. repeated: a passage with the words of the query is never
        wrong for it.
        """
        self._names, self._queries, self._passages = Ragged("B"), Ragged("i"), Ragged("i")
        self._numbers = Ragged("q")  # how many positives a row has, and the numbers of its passages, positives first
        self._scores = Ragged("d")
        self._read, self._compared = passages, compared
        self._memo: dict[bytes, int] = {}
        self._digests = _Digests()
        self.cut_queries = self.answered = self.bare = 0
        waiting = iter(rows)
        while block := [*islice(waiting, ROWS_AT_ONCE)]:
            self._add(block, queries)
        self.cut_passages = len({*first_equal(self._digests.cut).tolist()})
        self._first = _numbers(first_equal(self._digests.passages))
        self._group(first_equal(self._digests.queries))
        self._repeats = self._repeating() if repeated else {}
        del self._read, self._compared, self._memo, self._digests
        self.tokens = array("i", map(self._cost, range(len(self))))

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._names)

    def at(self, place: int) -> PairItem:
        """Read a row."""
        numbers, positives, negatives = self._own(place)
        scores = dict(zip(reversed(numbers), reversed(self._scores[place]), strict=False))
        return PairItem(
            id=self._names[place].tobytes().decode("utf-8", "surrogatepass"),
            tokens=self.tokens[place],
            query=tuple(self._queries[place]),
            positives=self._texts(positives),
            negatives=self._texts(negatives),
            known=self._texts([number for number in self._answers(place) if number not in positives]),
            scores=tuple(scores[number] for number in (*positives, *negatives)) if scores else (),
        )

    def count_queries_alone(self) -> None:
        """Let a row's tokens be those of its query: where no step reads passages, they cost nothing."""
        self.tokens = array("i", map(self._queries.length, range(len(self))))

    def _add(self, block: Sequence[Pair], queries: Read) -> None:
        """Tokenize some rows, and keep them."""
        read = queries([row.query for row in block])
        self.cut_queries += sum(read.cut)
        numbers = iter(self._numbered([text for row in block for text in (*row.positives, *row.negatives)]))
        for row, ids in zip(block, read, strict=True):
            own = [*islice(numbers, len(row.positives) + len(row.negatives))]
            if all(number < 0 for number in own[: len(row.positives)]):
                self.bare += 1
                continue
            self._names.append(row.id.encode("utf-8", "surrogatepass"))
            self._queries.append(ids)
            self._numbers.append([len(row.positives), *own])
            self._scores.append(row.scores)
            self._digests.queries += ids_key(ids)
            self._digests.asked += text_key(normal(row.query))

    def _numbered(self, texts: Sequence[str]) -> list[int]:
        """Return the number of each passage, -1 where it is left out; those not met of late are tokenized."""
        keys = [*map(text_key, texts)]
        if len(self._memo) > MEMO:
            self._memo.clear()
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._memo}
        read = self._read([*new.values()])
        for (key, text), ids, cut in zip(new.items(), read, read.cut, strict=True):
            if cut:
                self._digests.cut += key
            self._memo[key] = len(self._passages) if self._compared(ids) else -1
            if self._memo[key] >= 0:
                self._passages.append(ids)
                self._digests.passages += ids_key(ids)
                self._digests.said += text_key(normal(text))
        return [self._memo[key] for key in keys]

    def _group(self, asked: NDArray[np.int64]) -> None:
        """Remember which rows have a query in common; asked: of each row, the first with its query."""
        several = np.flatnonzero(np.bincount(asked, minlength=len(asked))[asked] > 1)
        several = several[asked[several].argsort(kind="stable")]
        self._asked, self._several, self._several_ask = asked, several, asked[several]
        self._answered: tuple[int, dict[int, None]] = (-1, {})

    def _repeating(self) -> dict[int, tuple[int, ...]]:
        """Return for each row whose query is repeated by passages their numbers."""
        first = first_equal(self._digests.asked + self._digests.said)
        asked, said = first[: len(self)], first[len(self) :]
        same: dict[int, list[int]] = {}
        for number in np.flatnonzero(np.isin(said, asked)).tolist():
            same.setdefault(int(said[number]), []).append(self._first[number])
        return {row: tuple(same[int(asked[row])]) for row in np.flatnonzero(np.isin(asked, said)).tolist()}

    def _rows_that_ask(self, place: int) -> Sequence[int]:
        """Return the rows with the query of this one, in their order."""
        first, end = np.searchsorted(self._several_ask, [self._asked[place], self._asked[place] + 1])
        rows: list[int] = self._several[first:end].tolist()
        return rows or [place]

    def _answers(self, place: int) -> dict[int, None]:
        """Return what is never wrong for a row's query: what answers it in any row, and what repeats it."""
        asked = int(self._asked[place])
        if self._answered[0] != asked:
            found: dict[int, None] = {}
            for row in self._rows_that_ask(place):
                positives, _ = self._sides(row)
                found |= dict.fromkeys((*positives, *self._repeats.get(row, ())))
            found.pop(-1, None)
            self._answered = (asked, found)
        return self._answered[1]

    def _sides(self, place: int) -> tuple[list[int], list[int]]:
        """Return the numbers of a row's positives and negatives as they stand in it, -1 for what is left out."""
        count, *numbers = self._numbers[place]
        found = [self._first[number] if number >= 0 else -1 for number in numbers]
        return found[:count], found[count:]

    def _own(self, place: int) -> tuple[list[int], list[int], list[int]]:
        """Return the numbers of a row's passages as they stand in it, and the different positives and negatives."""
        right, wrong = self._sides(place)
        answers = self._answers(place) if wrong else {}
        positives = [number for number in dict.fromkeys(right) if number >= 0]
        negatives = [number for number in dict.fromkeys(wrong) if number >= 0 and number not in answers]
        return [*right, *wrong], positives, negatives

    def _cost(self, place: int) -> int:
        """Return the tokens of a row, and count the negatives that are left out of it."""
        numbers, positives, negatives = self._own(place)
        if len(positives) + len(negatives) < len(numbers):
            right, wrong = self._sides(place)
            known = self._answers(place).keys() - {*right}
            self.answered += sum(number in known for number in wrong)
        return self._queries.length(place) + sum(map(self._passages.length, (*positives, *negatives)))

    def _texts(self, numbers: Iterable[int]) -> tuple[Ids, ...]:
        return tuple(tuple(self._passages[number]) for number in numbers)


class _Digests:
    """Of each query and passage `KEY` bytes, one behind the other: by tokens, and by words; and of what was cut."""

    def __init__(self) -> None:
        self.queries, self.asked = bytearray(), bytearray()
        self.passages, self.said = bytearray(), bytearray()
        self.cut = bytearray()


def _numbers(found: NDArray[np.int64]) -> "array[int]":
    """Return numbers as plain ones, which a list takes faster."""
    return array("q", found.tobytes())
