import pytest

from burnish.errors import DataError
from burnish.prepare.leaks import Leak, Text, leaks, read_texts


def texts(prefix: str, *found: str) -> list[Text]:
    return [Text(f"{prefix}{number}", text) for number, text in enumerate(found)]


def test_exact_and_near_leaks_are_told_apart():
    ours = texts("a", "How do I reset my card?", "Where is the nearest branch office", "nothing like it", "!")
    theirs = texts("b", "unrelated words", "how do i RESET my card", "Where is the nearest branch offices", "?")
    exact, near = leaks(ours, theirs)
    assert exact == Leak("a0", "b1", "exact", 1.0)
    assert (near.ours, near.theirs, near.kind) == ("a1", "b2", "near")
    assert 0.8 <= near.similarity < 1


def test_each_of_our_rows_counts_once_with_the_closest_of_theirs():
    base = "Where is the nearest branch of the bank in town"
    found = leaks(texts("a", base, base), texts("b", base + "ship", base + "s", base + "s"))
    assert [(leak.ours, leak.theirs) for leak in found] == [("a0", "b1"), ("a1", "b1")]


def test_sets_without_overlap_have_no_leaks():
    assert leaks(texts("a", "one two three"), texts("b", "four five six")) == []
    assert leaks([], []) == []


def test_the_text_column_is_found_or_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "x", "query": "first"}\n\n{"query": "second", "id": ""}\n{"query": " "}\n')
    assert read_texts(path) == [Text("x", "first"), Text("line 3", "second")]
    table = tmp_path / "b.csv"
    table.write_text('_id,body,text\n1,"two\nlines",other\n')
    assert read_texts(table) == [Text("1", "other")]
    assert read_texts(table, field="body") == [Text("1", "two\nlines")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\nnope\n', "a.jsonl:2: this row is not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: a row must be an object"),
        ("a.jsonl", '{"text": "x"}\n{"txt": "y"}\n', "a.jsonl:2: 'text' must hold a text"),
        ("a.jsonl", '{"body": "x"}\n', "none of question, query, text, prompt is here"),
        ("a.jsonl", "", "the file holds no rows"),
        ("a.csv", "text,id\nx\n", "a.csv:2: 2 cells are needed"),
        ("a.txt", "x", "a .jsonl or .csv file is needed"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name)


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_texts(tmp_path / "a.csv")


def test_a_missing_file_and_a_wrong_field_name_the_near_miss(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"title": "x"}\n')
    with pytest.raises(DataError, match=r"Did you mean 'train\.jsonl'"):
        read_texts(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"train\.jsonl:1: there is no field 'titel'\. Did you mean 'title'"):
        read_texts(tmp_path / "train.jsonl", field="titel")
