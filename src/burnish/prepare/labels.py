"""Checks of labelled rows before anything is trained: labels that cannot be learned, measured or trusted."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from burnish.errors import near_miss
from burnish.prepare.balance import effective_number, labels_of
from burnish.records import Labelled
from burnish.text import normal

FEWEST_ROWS = 2  # of a class; with one, there is nothing to learn from or nothing to measure on

_SHOWN = 10  # findings of a kind that are written out for a person
_JOINTS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")  # between letters or digits: `-1` and `1` stay apart


@dataclass(frozen=True, slots=True)
class LabelUse:
    """A label on one side: how often, and the id of the first row that has it."""

    label: str
    side: str
    rows: int
    first: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Rows with the same text in normal form and different labels."""

    text: str  # as the first row has it
    rows: tuple[tuple[str, str, str], ...]  # side, id, label; several labels are joined by ` + `


@dataclass(frozen=True, slots=True)
class ClassSize:
    """How much there is of one class."""

    label: str
    rows: int
    share: float  # of all rows, from 0 to 1; the shares add up to more than 1 where rows have several labels
    effective: float  # what the rows are worth (Cui et al. 2019), see `effective_number`


@dataclass(frozen=True, slots=True)
class Balance:
    """How unequal the classes are, the largest first."""

    rows: int
    classes: tuple[ClassSize, ...]
    ratio: float  # rows of the largest class for each row of the smallest, from 1
    equal_classes: float  # as many classes of equal size are as hard to guess: exp of the entropy, from 1

    def lines(self) -> list[str]:
        """Return a line on the whole, then one a class."""
        return [
            f"{_rows(self.rows)} in {len(self.classes):,} classes, as varied as {self.equal_classes:.1f} of equal "
            f"size; the largest has {self.ratio:.1f} times the rows of the smallest",
            *(
                f"{found.label}: {_rows(found.rows)}, {found.share:.1%}, worth {found.effective:.1f}"
                for found in self.classes
            ),
        ]


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What is wrong with the labels of a data set's sides, of which the first is the one to learn from."""

    learnt: str  # the name of the first side
    unknown: tuple[LabelUse, ...]  # on another side, and not on the first
    one_sided: tuple[LabelUse, ...]  # on one side alone, where there are several
    tiny: tuple[LabelUse, ...]  # on the first side with fewer than two rows
    empty: tuple[tuple[str, str], ...]  # side and id of rows whose text or label holds nothing
    conflicts: tuple[Conflict, ...]
    variants: tuple[tuple[str, ...], ...]  # labels that are the same but for case, spaces, hyphens and underscores
    balance: Mapping[str, Balance]  # by side; a side without rows has none

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.unknown or self.one_sided or self.tiny or self.empty or self.conflicts or self.variants)

    def lines(self) -> list[str]:
        """Return what was found, a sentence each; of more than ten of a kind, how many were left out."""
        known = [found.label for found in self.balance[self.learnt].classes] if self.learnt in self.balance else []
        kinds = [
            [
                f"{use.side}: label {use.label!r} ({_rows(use.rows)}, the first is {use.first!r}) is not on the "
                f"{self.learnt} side, and cannot be learned.{near_miss(use.label, known)}"
                for use in self.unknown
            ],
            [
                f"label {use.label!r} stands on the {use.side} side alone ({_rows(use.rows)}): it is learned and never "
                "measured"
                for use in self.one_sided
                if use.side == self.learnt
            ],
            [
                f"{use.side}: label {use.label!r} has {_rows(use.rows)} ({use.first!r}), and {FEWEST_ROWS} or more are "
                "needed"
                for use in self.tiny
            ],
            [f"{side}: row {key!r} has an empty text or label" for side, key in self.empty],
            [
                f"the same text has different labels: {', '.join(f'{s} {i!r} {label!r}' for s, i, label in found.rows)}"
                for found in self.conflicts
            ],
            [f"labels that may be one and the same: {', '.join(map(repr, found))}" for found in self.variants],
        ]
        return [line for found in kinds for line in _shown(found)]


def check_labels(sides: Mapping[str, Sequence[Labelled]]) -> LabelReport:
    """Return what is wrong with the labels.

    sides: name to rows, the one to learn from first: train, dev, test; or one name where nothing is split yet.

    Raises:
        ValueError: there is no side.
    """
    if not sides:
        raise ValueError("at least one side is needed")
    learnt = next(iter(sides))
    uses = {side: _uses(side, rows) for side, rows in sides.items()}
    holders = Counter(label for found in uses.values() for label in found)
    return LabelReport(
        learnt=learnt,
        unknown=tuple(
            use
            for side, found in uses.items()
            if side != learnt
            for use in found.values()
            if use.label not in uses[learnt]
        ),
        one_sided=tuple(
            use for found in uses.values() for use in found.values() if len(sides) > 1 and holders[use.label] == 1
        ),
        tiny=tuple(use for use in uses[learnt].values() if use.rows < FEWEST_ROWS),
        empty=tuple(
            (side, row.id)
            for side, rows in sides.items()
            for row in rows
            if not (row.text.strip() and all(label.strip() for label in labels_of(row)))
        ),
        conflicts=tuple(_conflicts(sides)),
        variants=tuple(_variants(holders)),
        balance={side: balance(rows) for side, rows in sides.items() if any(map(labels_of, rows))},
    )


def balance(rows: Sequence[Labelled]) -> Balance:
    """Return how unequal the classes of some rows are; classes with as many rows come in the order of their names.

    Raises:
        ValueError: no row has a label.
    """
    counts = Counter(label for row in rows for label in labels_of(row))
    if not counts:
        raise ValueError("without labels there is no balance")
    ordered = sorted(counts.items(), key=lambda found: (-found[1], found[0]))
    parts = [count / counts.total() for _, count in ordered]
    return Balance(
        rows=len(rows),
        classes=tuple(ClassSize(label, count, count / len(rows), effective_number(count)) for label, count in ordered),
        ratio=ordered[0][1] / ordered[-1][1],
        equal_classes=math.exp(-sum(part * math.log(part) for part in parts)),
    )


def _uses(side: str, rows: Sequence[Labelled]) -> dict[str, LabelUse]:
    """Return how each label is used on one side, in the order in which they first come."""
    counts = Counter(label for row in rows for label in labels_of(row))
    first: dict[str, str] = {}
    for row in rows:
        for label in labels_of(row):
            first.setdefault(label, row.id)
    return {label: LabelUse(label, side, count, first[label]) for label, count in counts.items()}


def _conflicts(sides: Mapping[str, Sequence[Labelled]]) -> Iterator[Conflict]:
    """Yield the texts that have more than one label, in the order in which they first come."""
    same: dict[str, list[tuple[str, Labelled]]] = defaultdict(list)
    for side, rows in sides.items():
        for row in rows:
            same[normal(row.text) or f"\0{row.text}"].append((side, row))
    for found in same.values():
        if len({frozenset(labels_of(row)) for _, row in found}) > 1:
            yield Conflict(found[0][1].text, tuple((side, row.id, " + ".join(labels_of(row))) for side, row in found))


def _variants(labels: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Yield the labels that differ by their spelling alone, in the order of their names."""
    same: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        same[_JOINTS.sub(" ", unicodedata.normalize("NFKC", label).casefold().strip())].append(label)
    yield from (tuple(found) for found in same.values() if len(found) > 1)


def _rows(count: int) -> str:
    """Return how many rows, in words."""
    return "1 row" if count == 1 else f"{count:,} rows"


def _shown(found: Sequence[str]) -> list[str]:
    """Return the first lines of a kind, and how many were left out."""
    rest = len(found) - _SHOWN
    return [*found[:_SHOWN], *([f"… and {rest:,} more like it"] if rest > 0 else [])]
