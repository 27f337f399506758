"""Shots: answered rows of the training set, shown in a prompt as examples; the same for all, or the nearest to each."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from burnish.errors import DataError
from burnish.records import Chunk, Completion, Message
from burnish.retrievers import Progress, Retriever
from burnish.sequences import Lazy
from burnish.spec import Spec
from burnish.text import normal

WIDE = 40  # nearest rows looked through beyond those needed, for some may not be shown


class Shots(Spec):
    """How many training rows a prompt shows as examples, and which. A number alone is short for {count: …}.

    like: what finds the rows nearest to the question among the training questions, shown with the nearest last
    (Liu et al. 2021, arXiv 2101.06804); without it every prompt shows the same, from all over the training rows.
    No prompt shows its own row, one of the same group, or one that asks the same.
    """

    count: int = Field(default=0, ge=0)
    like: Retriever | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Asked(NamedTuple):
    """What a row asks, and what it cannot be shown with."""

    id: str
    group: str
    text: str

    def may_see(self, other: "Asked") -> bool:
        """Tell whether another row may stand in this one's prompt."""
        same = self.id == other.id or (self.group and self.group == other.group)
        return not same and normal(self.text) != normal(other.text)


def spread(size: int, count: int) -> list[int]:
    """Return the places of `count` rows from all over `size` of them."""
    return [*range(0, size, max(1, size // count))][:count] if count else []


def ranked(
    asked: Sequence[Asked], pool: Sequence[Asked], shots: Shots, *, cache: Path, progress: Progress
) -> Iterator[Iterator[int]]:
    """Yield, for each question, the places in the pool that may be shown with it, the best ones first.

    After the nearest ones, or without `like`, come those from all over the pool, and then the others.
    """
    general = [place for count in (shots.count, 2 * shots.count) for place in spread(len(pool), count)]
    nearest: list[list[int]] = [[] for _ in asked]
    if shots.like is not None:
        questions = [Chunk(id=str(place), text=row.text) for place, row in enumerate(pool)]
        searcher = shots.like.build(questions, cache=cache, progress=progress)
        hits = searcher.search([row.text for row in asked], 4 * shots.count + WIDE)
        nearest = [[int(hit.id) for hit in found] for found in hits]
    for row, near in zip(asked, nearest, strict=True):
        yield _visible(row, chain(near, general, range(len(pool))), pool)


def _visible(row: Asked, places: Iterable[int], pool: Sequence[Asked]) -> Iterator[int]:
    """Yield the places that the row may see, each once."""
    seen: set[int] = set()
    for place in places:
        if place not in seen and row.may_see(pool[place]):
            seen.add(place)
            yield place


def with_shots(
    rows: Sequence[Completion], pool: Sequence[Completion], shots: Shots, *, cache: Path, progress: Progress
) -> Sequence[Completion]:
    """Return the rows with examples from the pool before what their prompts ask.

    Chats have them as earlier turns, behind the system's message; plain prompts as texts with an empty line between.

    Raises:
        DataError: the pool has fewer rows that may be shown, or some prompts are chats and others are not.
    """
    asked, known = ([Asked(row.id, row.group, _question(row)) for row in found] for found in (rows, pool))
    places = []
    for row, best in zip(asked, ranked(asked, known, shots, cache=cache, progress=progress), strict=True):
        found = [*islice(best, shots.count)]
        if len(found) < shots.count:
            raise DataError(
                f"row {row.id!r}: {len(found)} training rows may be shown with it, and data.shots asks for "
                f"{shots.count}; give more rows of other groups, or ask for fewer"
            )
        places.append(tuple(reversed(found)) if shots.like is not None else tuple(found))
    return _Prompted(rows, pool, places)


class _Prompted(Lazy[Completion]):
    """Rows whose prompts are put together when they are asked for."""

    def __init__(
        self,
        rows: Sequence[Completion],
        pool: Sequence[Completion],
        places: Sequence[Sequence[int]],
    ) -> None:
        self._rows, self._pool, self._places = rows, pool, places

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, place: int) -> Completion:
        return shown(self._rows[place], [self._pool[found] for found in self._places[place]])


def shown(row: Completion, examples: Sequence[Completion]) -> Completion:
    """Return a row with examples in its prompt.

    Raises:
        DataError: some prompts are chats and others are not.
    """
    if len({isinstance(found.prompt, str) for found in (row, *examples)}) > 1:
        raise DataError(f"row {row.id!r}: its prompt and its examples' are not all plain or all chats")
    if isinstance(row.prompt, str):
        before = [f"{example.prompt}{example.completion}\n\n" for example in examples]
        return row.model_copy(update={"prompt": "".join([*before, row.prompt])})
    system = [message for message in row.prompt[:1] if message.role == "system"]
    earlier = [
        message
        for example in examples
        for message in (*_turns(example), Message(role="assistant", content=example.completion))
    ]
    begins = None if row.answers_from is None else row.answers_from + len(earlier)  # examples are read, not learned
    return row.model_copy(update={"prompt": (*system, *earlier, *row.prompt[len(system) :]), "answers_from": begins})


def _turns(row: Completion) -> tuple[Message, ...]:
    """Return a chat's turns without the system's message, which stands once in a prompt."""
    assert not isinstance(row.prompt, str)
    return row.prompt[1:] if row.prompt[0].role == "system" else row.prompt


def _question(row: Completion) -> str:
    """Return what a row asks: its prompt, of a chat the last turn."""
    return row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
