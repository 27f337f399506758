"""Table files as raw rows: JSONL, JSON, CSV, TSV, Parquet, or a folder of text files, each row with its place."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from burnish.errors import DataError, near_miss

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

_LONGEST_CELL = 2**24  # characters; the library's own limit of 131,072 is less than a long document
_BATCH = 4096  # rows of Parquet that are turned into Python objects at once
LARGE = 1 << 26  # bytes of files beyond which rows are not held in memory


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the file has it."""

    place: str  # where it stands, as a message begins: FILE:17, or FILE: row 17 where lines mean nothing
    cells: dict[str, Any]  # by column; a row of JSON may lack some


class Streamed(Collection[Row]):
    """Rows that are read from the disk each time they are gone through."""

    def __init__(self, read: Callable[[], Iterator[Row]], count: int) -> None:
        """Read the rows by this function, which finds so many."""
        self._read, self._count = read, count

    def __iter__(self) -> Iterator[Row]:
        """Read the rows in their order."""
        return self._read()

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._count

    def __contains__(self, row: object) -> bool:
        """Tell whether this is one of the rows; all are read for it."""
        return any(row == one for one in self)


@dataclass(frozen=True, slots=True)
class Table:
    """The columns in the order they first come in, and the rows; those of large JSONL and Parquet are streamed."""

    columns: tuple[str, ...]
    rows: Collection[Row]

    def changed(self, columns: tuple[str, ...], change: Callable[[Row], Row]) -> "Table":
        """Return the table with other columns, and every row changed."""
        if isinstance(self.rows, Streamed):
            return Table(columns, Streamed(lambda: map(change, self.rows), len(self.rows)))
        return Table(columns, [*map(change, self.rows)])


def is_large(files: Sequence[Path]) -> bool:
    """Tell whether files hold more than should stay in memory."""
    return sum(file.stat().st_size for file in files if file.is_file()) > LARGE


def joined(tables: Sequence[Table]) -> Table:
    """Return several tables as one, with the columns of all."""
    if len(tables) == 1:
        return tables[0]
    columns = tuple(dict.fromkeys(column for table in tables for column in table.columns))

    def read() -> Iterator[Row]:
        return (row for table in tables for row in table.rows)

    if any(isinstance(table.rows, Streamed) for table in tables):
        return Table(columns, Streamed(read, sum(len(table.rows) for table in tables)))
    return Table(columns, [*read()])


def read_table(path: Path, bad: list[str], *, quote: str | None = None, needed: Collection[str] = ()) -> Table:
    r"""Read a table file, or a folder with one sub-folder of .txt files a class; faults of rows are added to `bad`.

    quote: the sign around cells of .csv and .tsv that hold separators or line ends, or "" where quotation marks are
    text like any other. By default `"` for .csv and "" for .tsv.
    needed: the columns of Parquet to read, or places inside them (`answers.text`); all where none is named.

    Raises:
        DataError: the file is missing, of another kind, or cannot be read at all.
    """
    if path.is_dir():
        return _folder(path, bad)
    if not path.is_file():
        siblings = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file or folder.{near_miss(path.name, siblings)}")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            f"{path}: a table in {', '.join(ENDINGS)} or a folder of text files is needed (found {ending or path.name})"
        )
    try:
        if ending == ".jsonl":
            return _jsonl(path, bad)
        if ending == ".json":
            return _json(path, bad)
        if ending == ".parquet":
            return _parquet(path, needed)
        if quote is None and ending == ".tsv":
            return _without_quoting(path, bad)
        return _delimited(path, bad, delimiter="\t" if ending == ".tsv" else ",", quote='"' if quote is None else quote)
    except OSError as error:
        raise DataError(f"{path}: this file cannot be read: {error.strerror or error}") from error


def _jsonl(path: Path, bad: list[str]) -> Table:
    """Read one object a line; empty lines are passed over. A large file is read once for its columns and its faults."""
    if not is_large([path]):
        rows = [*_jsonl_rows(path, bad)]
        return Table(_columns(rows), rows)
    columns: dict[str, None] = {}
    count = 0
    for row in _jsonl_rows(path, bad):
        columns |= dict.fromkeys(row.cells)
        count += 1
    return Table(tuple(columns), Streamed(lambda: _jsonl_rows(path, []), count))


def _jsonl_rows(path: Path, bad: list[str]) -> Iterator[Row]:
    """Yield the lines that hold an object; the faults of the others are added to `bad`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                found = json.loads(text) if text.strip() else {}
            except UnicodeDecodeError as error:
                bad.append(f"{path}:{number}: this row is not UTF-8 text ({error.reason} at byte {error.start + 1})")
            except json.JSONDecodeError as error:
                bad.append(f"{path}:{number}: this row is not JSON: {error.msg} at column {error.colno}")
            except (RecursionError, ValueError):  # Python reads no whole number of more than some thousand digits
                bad.append(f"{path}:{number}: this row is nested too deeply, or holds a number that is too long")
            else:
                if text.strip():
                    yield from _objects(f"{path}:{number}", found, bad)


def _json(path: Path, bad: list[str]) -> Table:
    """Read a list of objects, or an object of objects, whose keys are then their ids.

    Raises:
        DataError: it is neither.
    """
    try:
        found = json.loads(_decoded(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: this is not JSON: {error.msg} at column {error.colno}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: this file is nested too deeply, or holds a number that is too long") from error
    if isinstance(found, dict) and found and all(isinstance(value, dict) for value in found.values()):
        found = [{"id": key, **value} for key, value in found.items()]
    if not isinstance(found, list):
        inside = [key for key, value in found.items() if isinstance(value, list)] if isinstance(found, dict) else []
        hint = f"; {inside[0]!r} holds a list: write it to a file of its own" if inside else ""
        raise DataError(f"{path}: a list of objects, or an object of objects by id, is needed here{hint}")
    rows = [row for number, one in enumerate(found, start=1) for row in _objects(f"{path}: row {number}", one, bad)]
    return Table(_columns(rows), rows)


def _without_quoting(path: Path, bad: list[str]) -> Table:
    """Read tab-separated values, in which a quotation mark is text; where it may be more, ask.

    Text/tab-separated-values has no quoting, and real tables hold quotation marks that nothing closes. But spreadsheets
    and pandas write quoted cells all the same, which would be read with their marks.
    """
    table = _delimited(path, bad, delimiter="\t", quote="")
    marked = [(row.place, cell) for row in table.rows for cell in row.cells.values() if cell.startswith('"')]
    if marked and all(_is_quoted(cell) for _, cell in marked):
        place, cell = marked[0]
        bad.append(
            f"{place}: all {len(marked):,} cells that begin with a quotation mark also end with one ({cell:.40}): say "
            "quote='\"' if the marks stand around the text, or quote='' if they belong to it"
        )
    return table


def _is_quoted(cell: str) -> bool:
    """Tell whether a cell is what quoting makes of a text: in marks, and each mark inside doubled."""
    return len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "")


def _delimited(path: Path, bad: list[str], *, delimiter: str, quote: str) -> Table:
    """Read a table with a header.

    Raises:
        DataError: there is no header, or a column has no name of its own.
    """
    kind = {"quotechar": quote, "strict": True} if quote else {"quotechar": None, "quoting": csv.QUOTE_NONE}
    with _long_cells():
        found = _numbered(csv.reader(StringIO(_decoded(path), newline=""), delimiter=delimiter, **kind), path, bad)
        line, header = next(found, (1, []))
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path}:{line}: two columns are called {twice!r}; each needs a name of its own")
        rows = []
        for number, cells in found:
            if len(cells) == len(header):
                rows.append(Row(f"{path}:{number}", dict(zip(header, cells, strict=True))))
                continue
            quoting = (
                "" if quote or delimiter == "," else ". If cells with tabs stand in quotation marks, say quote='\"'"
            )
            bad.append(
                f"{path}:{number}: {len(header)} cells are needed, as in the header (found {len(cells)}){quoting}"
            )
    return Table(tuple(header), rows)


def _numbered(reader: Any, path: Path, bad: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that hold something with the lines they begin on; the first that cannot be read is the last."""
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad.append(
                f"{path}:{start}: the row that begins here cannot be read: {error}. A quoted cell needs a mark at "
                "both ends, and each mark inside doubled"
            )
            return
        if cells:
            yield start, cells


def _parquet(path: Path, needed: Collection[str]) -> Table:
    """Read the needed columns; numbers of classes become their names, where the file's metadata tell them.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: reading .parquet needs pyarrow: pip install 'burnish[parquet]'") from error
    with _damage(path), parquet.ParquetFile(path) as file:
        columns, count = tuple(file.schema_arrow.names), file.metadata.num_rows
        names = _class_names(file.schema_arrow.metadata or {})
    chosen = [column for column in columns if _is_needed(column, needed)]

    def read() -> Iterator[Row]:
        with _damage(path), parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_BATCH, columns=chosen) if chosen else ()
            found = (cells for batch in batches for cells in batch.to_pylist())
            for number, cells in enumerate(found, start=1):
                for column in names.keys() & cells.keys():
                    cells[column] = _named(cells[column], names[column])
                yield Row(f"{path}: row {number}", cells)

    return Table(columns, Streamed(read, count if chosen else 0) if is_large([path]) else [*read()])


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Say of a Parquet file that it is damaged.

    Raises:
        DataError: Arrow cannot read it.
    """
    import pyarrow  # it need not be installed

    try:
        yield
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: this is not Parquet, or damaged: {str(error).splitlines()[0]}") from error


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Return the names of the classes by column, as the `datasets` library writes them beside numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        kinds = {column: kind.get("feature", kind) for column, kind in features.items()}  # of one value, or of each
        return {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class's number, or of each in a list; none for a number that has none, as -1 is used."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _is_needed(column: str, needed: Collection[str]) -> bool:
    """Tell whether a column, or a place inside it, is asked for."""
    return not needed or column in needed or any(name.startswith(f"{column}.") for name in needed)


def _folder(path: Path, bad: list[str]) -> Table:
    """Read every .txt file of every sub-folder: its text, the folder's name as label, its path inside as id.

    Files beside the sub-folders are passed over unless they end in .txt; names that begin with a dot always.

    Raises:
        DataError: there is no sub-folder.
    """
    inside = sorted(found for found in path.iterdir() if found.name[0] != ".")
    classes = [found for found in inside if found.is_dir()]
    if not classes:
        tables = [found.name for found in inside if found.suffix.lower() in ENDINGS]
        hint = f" Did you mean {path / tables[0]}?" if tables else ""
        raise DataError(f"{path}: a folder of texts needs one sub-folder a class, and this one has none.{hint}")
    bad += [f"{found}: this text stands in no class's sub-folder" for found in inside if _is_loose(found)]
    rows = []
    for file in (file for one in classes for file in sorted(one.iterdir()) if file.name[0] != "."):
        if not file.is_file() or file.suffix.lower() != ".txt":
            bad.append(f"{file}: a sub-folder of a class holds .txt files and nothing else")
        elif not file.resolve().is_relative_to(path.resolve()):
            bad.append(f"{file}: this is a link that leads out of {path}")
        else:
            try:
                name = file.relative_to(path).as_posix()
                rows.append(Row(str(file), {"id": name, "label": file.parent.name, "text": _decoded(file)}))
            except DataError as error:
                bad.append(str(error))
    return Table(("id", "label", "text"), rows)


def _is_loose(path: Path) -> bool:
    """Tell whether this is a text file."""
    return path.is_file() and path.suffix.lower() == ".txt"


def _decoded(path: Path) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        DataError: it is not UTF-8; the line is named.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        utf_16 = "; it looks like UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DataError(f"{path}:{line}: this is not UTF-8 text ({error.reason}){utf_16}. Save it as UTF-8") from error


def _objects(place: str, found: object, bad: list[str]) -> Iterator[Row]:
    """Yield the row that a JSON value is, if it is an object."""
    if isinstance(found, dict):
        yield Row(place, found)
    else:
        bad.append(f"{place}: a row must be an object with a key a column (found {type(found).__name__})")


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return every key of the rows, in the order in which they first come."""
    return tuple(dict.fromkeys(key for row in rows for key in row.cells))


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be as long as documents are while a table is read; the library's limit is one for all."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
