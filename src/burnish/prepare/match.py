"""Which record a table holds, told by the names of its columns and by what stands in them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import DataError, near_miss
from burnish.preference_rows import Preference
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Record, Scored
from burnish.table_files import Table

_TEXT = ("text", "sentence", "sentence1", "text1", "utterance", "review", "content", "body", "message", "comment")
_OPTIONAL = {
    "id": ("id", "_id"),
    "group": ("group",),
    "negatives": ("negatives", "negative"),
    "scores": ("scores", "teacher_scores"),
    "pair": ("pair", "text2", "sentence2", "text_pair"),
    "others": ("others",),
}
# What columns are called, most special record first: the first whose fields are all there is the one.
_NEEDED: dict[type[Record], dict[str, tuple[str, ...]]] = {
    Preference: {"prompt": ("prompt", "instruction", "question"), "chosen": ("chosen",), "rejected": ("rejected",)},
    Extraction: {"question": ("question", "query"), "context": ("context", "passage"), "answers": ("answers",)},
    Pair: {
        "query": ("query", "question", "anchor"),
        "positives": ("positives", "positive", "passage", "passages", "document"),
    },
    Completion: {
        "prompt": ("prompt", "instruction", "question", "input", "source"),
        "completion": ("completion", "response", "answer", "output", "target", "summary"),
    },
    Scored: {"text": _TEXT, "score": ("score", "rating", "stars", "similarity")},
    Labelled: {
        "text": _TEXT,
        "label": ("label", "labels", "category", "class", "intent", "topic", "sentiment", "tag", "tags"),
    },
    Document: {"text": _TEXT},
}
_FEW_NUMBERS = 20  # so many different whole numbers are names of classes; more, or broken ones, are scores


@dataclass(frozen=True, slots=True)
class Match:
    """The record that a table holds, which column holds which field, and what is left out; notes for a person.

    columns: none where the rows have a form that the record reads itself, as chats have.
    """

    record: type[Record]
    columns: Mapping[str, str]
    notes: tuple[str, ...]


def match(table: Table, columns: Mapping[str, str]) -> Match:
    """Return the record that fits the table's columns.

    columns: field → column where the names do not tell; a record is meant that has all these fields.

    Raises:
        DataError: none fits; the message names what is nearest to fitting.
    """
    if not columns and (form := _form(table)):
        return form
    found = {record: _found(record, table.columns, columns) for record in _NEEDED if set(columns) <= _fields(record)}
    if not found:
        known = sorted(set().union(*(_fields(record) for record in _NEEDED)))
        raise DataError(f"no record has the fields {', '.join(columns)}; there are: {', '.join(known)}")
    fitting = [record for record, places in found.items() if places.keys() >= _NEEDED[record].keys()]
    fitting = [record for record in fitting if record is not Extraction or _are_spans(table, found[record]["answers"])]
    if not fitting:
        raise DataError(f"{_listed(table)} fit no record. {_nearest(table, found)}")
    record, places = fitting[0], found[fitting[0]]
    if record is Labelled and _are_scores(table, places["label"]) and "label" not in columns:
        places = {"text": places["text"], "score": places["label"], **_optional(Scored, table.columns)}
        record = Scored
    unread, notes = _unread(table, [column.split(".")[0] for column in places.values()])
    if record is Document:
        notes += [hint for column in unread if (hint := _hint(column))]
    return Match(record, places, tuple(notes))


def _form(table: Table) -> Match | None:
    """Return the record whose rows stand as other libraries write them: chats, and answers of which one is better."""
    record = Preference if {"chosen", "rejected"} <= {*table.columns} else Completion
    form = next((form for form in record.forms if form in table.columns), None)
    if form in ("chosen", "rejected") and not isinstance(next(iter(_values(table, form)), None), list):
        return None
    if form is None or (form == "instruction" and not {"input", "output"} <= {*table.columns}):
        return None
    beside = {"chosen", "rejected", "prompt"} if record is Preference else set()
    return Match(record, {}, tuple(_unread(table, {form, *record.forms[form], *beside, "id", "group"})[1]))


def _unread(table: Table, used: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the columns that are left out, and the note that says so."""
    unread = [column for column in table.columns if column not in used]
    return unread, [f"columns that are not read: {', '.join(unread)}"] if unread else []


def _fields(record: type[Record]) -> set[str]:
    return set(record.model_fields)


def _found(record: type[Record], there: Sequence[str], said: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field, as far as there is one."""
    names = {column.casefold(): column for column in reversed(there)}
    places = {
        field: next((names[alias] for alias in aliases if alias in names), "")
        for field, aliases in _NEEDED[record].items()
    }
    return {field: column for field, column in {**_optional(record, there), **places, **said}.items() if column}


def _optional(record: type[Record], there: Sequence[str]) -> dict[str, str]:
    names = {column.casefold(): column for column in reversed(there)}
    wanted = {field: aliases for field, aliases in _OPTIONAL.items() if field in record.model_fields}
    return {field: names[alias] for field, aliases in wanted.items() for alias in aliases[::-1] if alias in names}


def _values(table: Table, column: str) -> list[Any]:
    """Return what stands in a column, without what is empty."""
    return [value for row in table.rows if (value := row.cells.get(column)) not in (None, "", [])]


def _are_spans(table: Table, column: str) -> bool:
    """Tell whether answers are lists of places in the context."""
    found = _values(table, column)
    return bool(found) and all(
        isinstance(value, list) and all(isinstance(span, dict) and {"text", "start"} <= span.keys() for span in value)
        for value in found
    )


def _are_scores(table: Table, column: str) -> bool:
    """Tell numbers that measure from numbers that name a class."""
    try:
        numbers = {float(value) for value in _values(table, column) if not isinstance(value, bool)}
    except (TypeError, ValueError):
        return False
    return len(numbers) > _FEW_NUMBERS or any(number % 1 for number in numbers)


def _hint(column: str) -> str:
    """Return what to say of a column that is called nearly like a label or a score."""
    for record, field in ((Labelled, "label"), (Scored, "score")):
        if near := near_miss(column, _NEEDED[record][field]):
            return f"column {column!r} is not read.{near} If it holds the {field}: --column {field}={column}"
    return ""


def _nearest(table: Table, found: Mapping[type[Record], Mapping[str, str]]) -> str:
    """Return what the record lacks that is nearest to fitting."""
    lacking = {record: [f for f in _NEEDED[record] if f not in places] for record, places in found.items()}
    record = min(lacking, key=lambda record: (len(lacking[record]), -len(_NEEDED[record])))
    if not lacking[record]:  # the columns are there, and hold something else
        return (
            f"{found[record]['answers']!r} holds no answers with their place in the context, "
            "[{text: …, start: …}, …], as an Extraction has them"
        )
    lines = [
        f"For a {record.__name__} there is no column for {field!r} ({', '.join(_NEEDED[record][field])})."
        f"{_near_column(field, record, table.columns)} Say which one holds it: --column {field}=…"
        for field in lacking[record]
    ]
    return " ".join(lines)


def _near_column(field: str, record: type[Record], there: Sequence[str]) -> str:
    """Return the column that is called nearly like the field."""
    return next((hint for alias in _NEEDED[record][field] if (hint := near_miss(alias, there))), "")


def _listed(table: Table) -> str:
    return f"the columns {', '.join(map(repr, table.columns))}" if table.columns else "a table without columns"
