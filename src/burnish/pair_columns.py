"""Rows of pairs as other libraries write them, under the names of a pair's own fields."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from burnish.errors import DataError, near_miss
from burnish.records import Pair
from burnish.table_files import Row, Table

NAMES = {  # of a field, its own first: sentence-transformers' triplets have the second, FlagEmbedding's rows the third
    "query": ("query", "anchor"),
    "positives": ("positives", "positive", "pos"),
    "negatives": ("negatives", "negative", "neg"),
}
FORMS = (
    "A pair is read from query or anchor; positives, positive or pos; and, if there are any, negatives, negative, neg "
    "or negative_1, negative_2 …; each is one text or a list of them"
)

_TEACHERS = ("pos_scores", "neg_scores")  # FlagEmbedding's, of positives and of negatives
FOREIGN = frozenset({name for _, *names in NAMES.values() for name in names} | {*_TEACHERS})

_NUMBERED = re.compile(r"negative_(\d+)")


def with_pair_columns(path: str | Path, table: Table, columns: Mapping[str, str]) -> Table:
    """Return the table with a pair's own columns: renamed, and n-tuples' `negative_1` … as one list a row.

    path: for messages. columns: field → the column that the user names; such fields stay as they are.

    Raises:
        DataError: several columns may hold the same field.
    """
    made: dict[str, tuple[str, ...]] = {}
    bad = []
    for field, names in NAMES.items():
        found = [name for name in names if name in table.columns]
        numbered = _numbered(table.columns) if field == "negatives" else ()
        if field in columns:
            continue
        if len(found) + bool(numbered) > 1:
            listed = " and ".join(map(repr, [*found, *numbered[:1]]))
            bad.append(f"{path}: {listed} may both hold the {field}; name the one to read in `columns`. {FORMS}")
        elif numbered or (found and found[0] != field):
            made[field] = numbered or (found[0],)
    if "scores" not in columns and "scores" not in table.columns and _TEACHERS[0] in table.columns:
        made["scores"] = tuple(name for name in _TEACHERS if name in table.columns)
    if bad:
        raise DataError("\n".join(bad))
    if not made:
        return table
    gone = {name for names in made.values() for name in names} - set(columns.values())
    left = [name for name in table.columns if name not in gone]
    return table.changed((*made, *left), lambda row: Row(row.place, _cells(row.cells, made, gone)))


def near_name(field: str, columns: Collection[str]) -> str:
    """Return the near miss of a field's names among the columns, as a message shows it."""
    hints = (near_miss(name, columns) for name in NAMES.get(field, (field,)))
    return next((hint for hint in hints if hint), "")


def all_names(columns: Collection[str]) -> set[str]:
    """Return every name that a pair's column may have and none here has."""
    names = {name for found in NAMES.values() for name in found} | {"negative_1", *_TEACHERS, *Pair.model_fields}
    return names - set(columns)


def is_plain(path: Path, foreign: Collection[str]) -> bool:
    """Tell whether the first row of a JSONL file has an id, and none of the columns that other libraries have."""
    with path.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        row = json.loads(first.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return True  # what is wrong with it is told where the file is read
    if not isinstance(row, dict):
        return True
    return "id" in row and not {*foreign, *_numbered(row)} & row.keys()


def _numbered(columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns negative_1, negative_2 … in the order of their numbers."""
    found = [(int(match[1]), match[0]) for match in map(_NUMBERED.fullmatch, columns) if match]
    return tuple(name for _, name in sorted(found))


def _cells(cells: Mapping[str, Any], made: Mapping[str, tuple[str, ...]], gone: Collection[str]) -> dict[str, Any]:
    """Return a row's cells under their new names; of several columns the texts that are there, in one list."""
    found = {name: value for name, value in cells.items() if name not in gone}
    for field, names in made.items():
        values = [cells[name] for name in names if _is_there(cells.get(name))]
        if len(names) == 1 and field != "scores":
            found[field] = cells.get(names[0])
        else:
            found[field] = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return found


def _is_there(value: Any) -> bool:
    """Tell whether a cell holds something: tables write what is missing as nothing, as no text or as no number."""
    return value is not None and value != "" and value == value  # noqa: PLR0124 (NaN alone differs from itself)
