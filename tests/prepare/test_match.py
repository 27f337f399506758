from collections.abc import Mapping
from typing import Any

import pytest

from burnish.errors import DataError
from burnish.prepare.match import match
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Record, Scored
from burnish.table_files import Row, Table


def table(*rows: Mapping[str, Any]) -> Table:
    columns = dict.fromkeys(column for row in rows for column in row)
    return Table(tuple(columns), [Row(f"t.csv:{number}", dict(row)) for number, row in enumerate(rows, start=2)])


@pytest.mark.parametrize(
    ("row", "record", "columns"),
    [
        ({"text": "a", "label": "x"}, Labelled, {"text": "text", "label": "label"}),
        ({"ID": "1", "Utterance": "a", "Intent": "x"}, Labelled, {"text": "Utterance", "label": "Intent"}),
        ({"text": "a", "label": ["x", "y"]}, Labelled, {"text": "text", "label": "label"}),
        ({"text": "a", "label": "0.5"}, Scored, {"text": "text", "score": "label"}),
        ({"text": "a", "label": "1"}, Labelled, {"text": "text", "label": "label"}),
        (
            {"sentence1": "a", "sentence2": "b", "score": "4"},
            Scored,
            {"text": "sentence1", "pair": "sentence2", "score": "score"},
        ),
        ({"question": "a", "answer": "b"}, Completion, {"prompt": "question", "completion": "answer"}),
        ({"instruction": "a", "output": "b"}, Completion, {"prompt": "instruction", "completion": "output"}),
        ({"query": "a", "positive": "b", "negative": "c"}, Pair, {"query": "query", "positives": "positive"}),
        (
            {"query": "a", "positives": ["b"], "negatives": ["c"], "scores": [2, 1]},
            Pair,
            {"query": "query", "scores": "scores"},
        ),
        (
            {"question": "a", "context": "b c", "answers": [{"text": "c", "start": 2}]},
            Extraction,
            {"question": "question", "context": "context", "answers": "answers"},
        ),
        ({"text": "a"}, Document, {"text": "text"}),
        ({"id": "1", "body": "a"}, Document, {"id": "id", "text": "body"}),
    ],
)
def test_the_record_is_told_by_the_columns(row: dict[str, Any], record: type[Record], columns: dict[str, str]):
    found = match(table(row), {})
    assert found.record is record
    assert columns.items() <= dict(found.columns).items()


def test_more_than_twenty_whole_numbers_are_scores_and_fewer_are_classes():
    def labels(count: int) -> Table:
        return table(*({"text": "a", "label": number} for number in range(count)))

    assert match(labels(20), {}).record is Labelled
    assert match(labels(21), {}).record is Scored
    assert match(labels(21), {"label": "label"}).record is Labelled  # who says so, means it


def test_a_column_that_is_named_decides():
    row = {"title": "a", "abstract": "b", "topic": "c"}
    assert dict(match(table(row), {"text": "abstract"}).columns) == {"text": "abstract", "label": "topic"}
    assert match(table(row), {"prompt": "abstract", "completion": "title"}).record is Completion


def test_columns_that_are_not_read_are_told_and_a_near_miss_among_them():
    found = match(table({"text": "a", "lable": "x", "source": "web"}), {})
    assert found.record is Document
    assert found.notes == (
        "columns that are not read: lable, source",
        "column 'lable' is not read. Did you mean 'label'? If it holds the label: --column label=lable",
    )


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        (
            {"txt": "a", "label": "x"},
            {},
            r"the columns 'txt', 'label' fit no record\. For a Labelled there is no column for 'text' \(text, sentence"
            r".*\)\. Did you mean 'txt'\? Say which one holds it: --column text=…",
        ),
        ({"title": "a"}, {}, r"For a Document there is no column for 'text'"),
        ({"text": "a"}, {"lable": "text"}, r"no record has the fields lable; there are: answers, .*completion, "),
        (
            {"question": "a", "context": "b", "answers": "b"},
            {"answers": "answers"},
            r"'answers' holds no answers with their place in the context, \[\{text: …, start: …\}, …\]",
        ),
    ],
)
def test_a_table_that_fits_no_record_is_told_what_is_nearest(row: Any, columns: Any, message: str):
    with pytest.raises(DataError, match=message):
        match(table(row), columns)


def test_a_table_without_columns_fits_nothing():
    with pytest.raises(DataError, match="a table without columns fit no record"):
        match(Table((), []), {})
