"""Any table as typed rows: files of five formats, folders of texts, data sets on the hub."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from burnish import data_hub
from burnish.chat_forms import KNOWN
from burnish.errors import DataError, near_miss
from burnish.pair_columns import FOREIGN, FORMS, all_names, is_plain, near_name, with_pair_columns
from burnish.records import Pair, Record, raise_faults, read_jsonl_into
from burnish.spec import faults
from burnish.stored_rows import Ids, RowsOnDisk
from burnish.table_files import Row, Table, is_large, joined, read_table

R = TypeVar("R", bound=Record)

_Place = tuple[str, tuple[str, ...]]  # a column, and the steps to a value inside its cells


def read_rows(
    path: str | Path, record: type[R], columns: Mapping[str, str] = {}, *, quote: str | None = None
) -> Sequence[R]:
    r"""Read a table as records, in the order of the file; those of more than 64 MB stay on the disk.

    path: a .jsonl, .json (a list of objects, or objects by id), .csv, .tsv (both with a header) or .parquet file; a
    folder with one sub-folder of .txt files a class, whose columns are `id`, `label` and `text`; or
    `hub:owner/name:split`.
    columns: record field → the column it is read from, or a place inside the column's cells: `answers.text` for a key,
    `target.0` for one of a list, `source.*` for all of a list of texts, joined by spaces. A field that is not named is
    read from the column of its own name, if there is one; other columns are left out. Where no columns are named at
    all, every column must be a field, and a .jsonl file is read as by `read_jsonl`, which wants an id in each row.
    Pairs are also read from the columns that other libraries give them (`pair_columns.FORMS`).
    quote: as in `read_table`: .csv is read with quotation marks around cells and .tsv without, unless said otherwise.

    A row without an id is called by the file and its number among the rows, from 1: `train:17`. An empty or missing
    cell leaves an optional field at its default; a number in a text field becomes its digits; one text for a field that
    holds several is the only one of them.

    Raises:
        DataError: the table is missing or empty, a column is not there, or rows cannot be read; all are named.
    """
    for field in columns:
        if field not in record.model_fields:
            raise DataError(
                f"columns: a {record.__name__} has no field {field!r}.{near_miss(field, record.model_fields)} "
                f"It has: {', '.join(record.model_fields)}"
            )
    files = _files(path)
    name = data_hub.split_name(str(path))[1] if str(path).startswith(data_hub.PREFIX) else Path(path).stem
    rows: list[R] | RowsOnDisk[R] = RowsOnDisk(record) if is_large(files) else []
    pairs = issubclass(record, Pair)
    jsonl = files[0].suffix.lower() == ".jsonl" and len(files) == 1 and files[0].is_file()
    if jsonl and not columns and (not (pairs or record.forms) or is_plain(files[0], (*record.forms, *FOREIGN))):
        read_jsonl_into(rows, files[0], record)
        return rows
    bad: list[str] = []
    needed = {columns.get(field, field) for field in record.model_fields} if columns and not pairs else ()
    found = joined([read_table(file, bad, quote=quote, needed=needed) for file in files])
    if not found.rows and not bad:
        raise DataError(f"{path}: the table holds no rows; a {record.__name__} a row is needed")
    found = with_pair_columns(path, found, columns) if pairs else found
    if (form := _form(record, columns, found)) is not None:
        _read_into(rows, found.rows, record, *_form_places(record, form, found), name, bad)
        raise_faults(bad)
        return rows
    places = _places(path, record, columns, found, bad) if found.columns else {}
    if places:
        _read_into(rows, found.rows, record, places, (), name, bad)
    raise_faults(bad)
    return rows


def columns_of(path: str | Path) -> tuple[str, ...]:
    """Return the columns of a table, in the order in which they first come.

    Raises:
        DataError: the table is missing, or cannot be read at all.
    """
    return joined([read_table(file, []) for file in _files(path)]).columns


def _files(path: str | Path) -> list[Path]:
    """Return the files that a table stands in."""
    return data_hub.fetch_split(str(path)) if str(path).startswith(data_hub.PREFIX) else [Path(path)]


def _places(
    path: str | Path, record: type[Record], columns: Mapping[str, str], table: Table, bad: list[str]
) -> dict[str, _Place]:
    """Return where each field is read; none at all where a column that is needed is not there."""
    listed = ", ".join(map(repr, table.columns)) if "" in table.columns else ", ".join(table.columns)
    places: dict[str, _Place] = {}
    missing = []
    for field, info in record.model_fields.items():
        place = _place(columns.get(field, field), table.columns)
        if place is not None:
            places[field] = place
        elif field in columns:
            hint = near_miss(columns[field], table.columns)
            missing.append(f"{path}: no column {columns[field]!r}; there are: {listed}.{hint}")
        elif info.is_required() and field != "id":
            hint = near_name(field, table.columns) if issubclass(record, Pair) else near_miss(field, table.columns)
            missing.append(
                f"{path}: no column {field!r}; there are: {listed}.{hint} Say in `columns` which one holds the {field}"
                + (f". {FORMS}" if issubclass(record, Pair) else f". {KNOWN}" if record.forms else "")
                + _separator_hint(table.columns)
            )
    if not columns and not missing:
        free = all_names(table.columns) if issubclass(record, Pair) else set(record.model_fields) - set(table.columns)
        missing = [
            f"{path}: column {column!r} is no field of a {record.__name__} ({', '.join(record.model_fields)})."
            f"{near_miss(column, free)} Name in `columns` what to read; other columns are then left out"
            for column in table.columns
            if column not in record.model_fields
        ]
    bad += missing
    return {} if missing else places


def _form(record: type[Record], columns: Mapping[str, str], table: Table) -> str | None:
    """Return the column by which the table's rows have another form, which the record reads itself.

    None where they have its own, or where the user names a column for a field that is needed.
    """
    needed = [field for field, info in record.model_fields.items() if info.is_required() and field != "id"]
    if not record.forms or any(field in columns for field in needed):
        return None
    if not all(field in table.columns for field in needed):
        return next((form for form in record.forms if form in table.columns), None)
    first = next(iter(table.rows), None)
    listed = first is not None and isinstance(first.cells.get(needed[-1]), list) and len(needed) > 1
    return needed[-1] if listed else None


def _form_places(record: type[Record], form: str, table: Table) -> tuple[dict[str, _Place], tuple[str, ...]]:
    """Return where the fields beside a form are read, and the columns that the form is read from whole.

    Other columns are left out: data of these forms come with some.
    """
    found = [name for name in record.forms if name in table.columns]  # of two, the record tells what is wrong
    parts = [*found, *(part for name in found for part in record.forms[name])] if form in found else ["prompt", form]
    beside = [field for field in record.model_fields if field in table.columns and field not in ("prompt", *parts)]
    return {field: (field, ()) for field in beside}, tuple(part for part in parts if part in table.columns)


def _place(name: str, columns: Sequence[str]) -> _Place | None:
    """Return the column that a name means: itself, or the longest one that it leads into by dots."""
    if name in columns:
        return name, ()
    steps = name.split(".")
    for length in range(len(steps) - 1, 0, -1):
        column = ".".join(steps[:length])
        if column in columns:
            return column, tuple(steps[length:])
    return None


def _separator_hint(columns: Sequence[str]) -> str:
    """Return what to say of a table that was read as one column because its cells are separated by another sign."""
    [only] = columns if len(columns) == 1 else [""]
    found = next((sign for sign in (";", "\t", "|") if sign in only), None)
    return (
        f". Its cells seem to be separated by {found!r}: commas are needed in .csv, and tabs in .tsv" if found else ""
    )


def _read_into(
    rows: list[R] | RowsOnDisk[R],
    found: Collection[Row],
    record: type[R],
    places: Mapping[str, _Place],
    whole: Sequence[str],
    name: str,
    bad: list[str],
) -> None:
    """Read the rows that are records, columns of `whole` as they are; the others' faults are added to `bad`."""
    ids = Ids()
    for number, row in enumerate(found, start=1):
        wrong: list[str] = []
        values = {column: row.cells[column] for column in whole if row.cells.get(column) is not None}
        values |= _values(row, record, places, wrong)
        values.setdefault("id", f"{name}:{number}")
        if not wrong:
            try:
                made = record.model_validate(values)
            except ValidationError as error:
                wrong += faults(error, record)
            else:
                rows.append(made)
                ids.add(made.id, number)
        bad += [f"{row.place}: {fault}" for fault in wrong]
    if twice := ids.twice():
        wanted = {number for _, *numbers in twice for number in numbers}
        place = {number: row.place for number, row in enumerate(found, start=1) if number in wanted}
        bad += [f"{place[own]}: id {rows[row].id!r} already stands in {place[first]}" for row, own, first in twice]


def _values(row: Row, record: type[Record], places: Mapping[str, _Place], wrong: list[str]) -> dict[str, Any]:
    """Return the values of the record's fields that the row holds."""
    values: dict[str, Any] = {}
    for field, (column, steps) in places.items():
        info = record.model_fields[field]
        name = ".".join([column, *steps])
        try:
            value = _follow(row.cells.get(column), steps)
            value = _as_wanted(value, info.annotation, name, field)
            _check_characters(value, name)
        except DataError as error:
            wrong.append(str(error))
            continue
        optional = field == "id" or not info.is_required()
        if value is None and not optional:
            wrong.append(f"this row has no {name!r}")
        elif value is not None and not (value == "" and optional):
            values[field] = value
    return values


def _follow(value: Any, steps: Sequence[str]) -> Any:
    """Return the value that steps lead to; nothing leads to nothing.

    Raises:
        DataError: there is no such key or place.
    """
    for step in steps:
        if value is None:
            return None
        if step == "*" and isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
            value = " ".join(value)
        elif isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            inside = _inside(value)
            raise DataError(f"{step!r} leads nowhere in {inside}" if step != "*" else f"'*' joins texts, not {inside}")
    return value


def _as_wanted(value: Any, annotation: object, name: str, field: str) -> Any:
    """Return a cell's value in the form that a field of this type reads: texts for numbers, several for one.

    Raises:
        DataError: it is a list or an object, and the field holds one text.
    """
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    several = next((kind for kind in kinds if get_origin(kind) is tuple), None)
    of_texts = several is not None and get_args(several)[0] is str
    if isinstance(value, list | tuple) and of_texts:
        return tuple(_as_text(one) for one in value)
    of_objects = several is not None and isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)
    if str in kinds and isinstance(value, list | tuple | dict) and not of_objects:
        within = f"{name}.0 for the first, or {name}.* for all, joined by spaces"
        if isinstance(value, dict):
            within = " or ".join(f"{name}.{key}" for key in list(value)[:3]) or "another column"
        raise DataError(f"{name!r} holds {_inside(value)}, and {field!r} needs one text: name {within}")
    if str in kinds or of_texts:
        value = _as_text(value)
    return (value,) if of_texts and str not in kinds and isinstance(value, str) and value else value


def _as_text(value: Any) -> Any:
    """Return a number as its digits, and one that is none as nothing."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and CSV write it
    return str(value) if isinstance(value, int | float) else value


def _inside(value: object) -> str:
    """Return what a message calls a value."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(str, list(value)[:5]))}" if value else "an empty object"
    return f"{value!r:.60}"


def _check_characters(value: object, name: str) -> None:
    """Check that the texts of a cell can be written again.

    Raises:
        DataError: one holds a NUL or half of a character.
    """
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str):
            if "\0" in text:
                raise DataError(f"{name!r} holds a NUL character, which is no text")
            if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise DataError(f"{name!r} holds half of a character (a lone surrogate)")
