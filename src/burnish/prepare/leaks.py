"""Texts that stand in two sets which should have nothing in common."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from burnish.errors import DataError, near_miss
from burnish.prepare.dedup import similar_pairs
from burnish.records import Chunk, Question, raise_faults
from burnish.text import normal

_FIELDS = ("question", "query", "text", "prompt")  # what the text is called, where it is not said
_IDS = ("id", "_id")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, and what it is called in messages and reports."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A text of ours that theirs holds too: the closest of theirs, and the Jaccard similarity of the two."""

    ours: str
    theirs: str
    kind: Literal["exact", "near"]
    similarity: float


def is_source(question: Question, chunk: Chunk) -> bool:
    """Tell whether a passage is what a question and its answer were made of: the same id, or both in its text."""
    text = normal(f"{chunk.title} {chunk.text}")
    answered = any(normal(answer) in text for answer in question.answers if answer.strip())
    return chunk.id == question.id or (answered and normal(question.question) in text)


def leaks(ours: Sequence[Text], theirs: Sequence[Text], *, threshold: float = 0.8, seed: int = 0) -> list[Leak]:
    """Return one leak for each of our texts that theirs holds in the same normal form, or in a similar one.

    threshold: the least Jaccard similarity of a near-duplicate, in (0, 1], as in `near_duplicates`. Texts without any
    word are left out. The order is that of `ours`; of equally close ones of theirs, the first is named.
    """
    first_of_theirs: dict[str, int] = {}
    for place, row in enumerate(theirs):
        first_of_theirs.setdefault(normal(row.text), place)
    first_of_theirs.pop("", None)
    closest = _closest(list(dict.fromkeys(normal(row.text) for row in ours)), first_of_theirs, threshold, seed)
    found = []
    for row in ours:
        form = normal(row.text)
        if form in first_of_theirs:
            found.append(Leak(row.id, theirs[first_of_theirs[form]].id, "exact", 1.0))
        elif form in closest:
            similarity, place = closest[form]
            found.append(Leak(row.id, theirs[place].id, "near", similarity))
    return found


def read_texts(path: Path, *, field: str | None = None) -> list[Text]:
    """Return the texts of a .jsonl or .csv file with a header, without the empty ones.

    field: the key or column that holds the text; by default the first of question, query, text and prompt that the
    first row has. A row is called by its `id` or `_id`, or by its line.

    Raises:
        DataError: the file is missing, empty or of another kind, the field is not there, or a row cannot be read.
    """
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: a .jsonl or .csv file is needed (found {path.suffix or 'no ending'!r})")
    if not path.is_file():
        siblings = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file.{near_miss(path.name, siblings)}")
    bad: list[str] = []
    try:
        rows = list(readers[path.suffix.lower()](path, bad))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this file is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path}: this file is not CSV: {error}") from error
    if not rows and not bad:
        raise DataError(f"{path}: the file holds no rows")
    chosen = _field(path, rows[0], field) if rows else ""
    texts = []
    for line, row in rows:
        text = row.get(chosen)
        if not isinstance(text, str):
            hint = "" if chosen in row else near_miss(chosen, row)
            bad.append(f"{path}:{line}: {chosen!r} must hold a text (found {text!r:.80}).{hint}")
        elif text.strip():
            texts.append(Text(id=_name(row, line), text=text))
    raise_faults(bad)
    return texts


_Row = Mapping[str, object]


def _closest(
    ours: Sequence[str], theirs: Mapping[str, int], threshold: float, seed: int
) -> dict[str, tuple[float, int]]:
    """Return for each distinct form of ours that has near-duplicates among theirs the similarity and place of one."""
    own = [form for form in ours if form and form not in theirs]
    forms = [*own, *theirs]
    closest: dict[str, tuple[float, int]] = {}
    for pair in similar_pairs(forms, threshold=threshold, seed=seed):
        if pair.first >= len(own) or pair.second < len(own):
            continue  # both on one side
        form, found = forms[pair.first], (pair.similarity, theirs[forms[pair.second]])
        best = closest.get(form)
        if best is None or (found[0], -found[1]) > (best[0], -best[1]):
            closest[form] = found
    return closest


def _field(path: Path, first: tuple[int, _Row], field: str | None) -> str:
    """Return the key that holds the texts.

    Raises:
        DataError: no such key is in the first row.
    """
    line, row = first
    if field is None:
        found = [name for name in _FIELDS if name in row]
        if not found:
            raise DataError(
                f"{path}:{line}: none of {', '.join(_FIELDS)} is here to be read. Name the field that holds the text; "
                f"there are: {', '.join(row)}"
            )
        return found[0]
    if field not in row:
        raise DataError(
            f"{path}:{line}: there is no field {field!r}.{near_miss(field, row)} There are: {', '.join(row)}"
        )
    return field


def _name(row: _Row, line: int) -> str:
    """Return what a row is called: its id, or its line."""
    return next((str(row[key]) for key in _IDS if row.get(key) not in (None, "")), f"line {line}")


def _jsonl_rows(path: Path, bad: list[str]) -> Iterator[tuple[int, _Row]]:
    """Yield the numbered objects of a JSONL file; faults are added to `bad`."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                bad.append(f"{path}:{number}: this row is not JSON: {error}")
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                bad.append(f"{path}:{number}: a row must be an object (found {type(row).__name__})")


def _csv_rows(path: Path, bad: list[str]) -> Iterator[tuple[int, _Row]]:
    """Yield the rows of a CSV file with the lines they end on; faults are added to `bad`."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                bad.append(f"{path}:{reader.line_num}: {len(header)} cells are needed (found {len(cells)})")
                continue
            yield reader.line_num, dict(zip(header, cells, strict=True))
