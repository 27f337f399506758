"""Pairs in the forms that other libraries write."""

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import DataError
from burnish.records import Pair
from burnish.tables import read_rows


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    file = path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def pair(path: Path, **row: Any) -> Pair:
    [found] = read_rows(jsonl(path, row), Pair)
    return found


def test_a_triplet_is_a_pair_with_a_negative(tmp_path: Path):
    expected = Pair(id="train:1", query="q", positives=("p",), negatives=("n",))
    assert pair(tmp_path, anchor="q", positive="p", negative="n") == expected
    assert pair(tmp_path, query="q", positive="p", negative="n") == expected


def test_a_pair_needs_no_negative_and_no_id(tmp_path: Path):
    assert pair(tmp_path, anchor="q", positive="p") == Pair(id="train:1", query="q", positives=("p",))
    assert pair(tmp_path, query="q", positives=["p", "r"]).positives == ("p", "r")
    assert pair(tmp_path, id="mine", anchor="q", positive="p").id == "mine"


def test_numbered_negatives_are_read_in_the_order_of_their_numbers_and_gaps_are_passed_over(tmp_path: Path):
    numbers = [1, 10, 2, 11, 3, 4, 5, 6, 7, 8, 9]
    file = jsonl(
        tmp_path,
        {"anchor": "q", "positive": "p", **{f"negative_{n}": f"n{n}" for n in numbers}},
        {"anchor": "r", "positive": "p", "negative_2": "n2", "negative_10": None, "negative_1": ""},
    )
    first, second = read_rows(file, Pair)
    assert first.negatives == tuple(f"n{n}" for n in range(1, 12))
    assert second.negatives == ("n2",)


def test_lists_of_negatives_and_the_names_of_flag_embedding_are_read(tmp_path: Path):
    found = pair(tmp_path, query="q", pos=["p"], neg=["n", "m"], pos_scores=[0.9], neg_scores=[0.1, 0.2])
    assert (found.positives, found.negatives, found.scores) == (("p",), ("n", "m"), (0.9, 0.1, 0.2))
    assert pair(tmp_path, anchor="q", positive="p", negative=["n", "m"]).negatives == ("n", "m")


def test_a_teachers_scores_are_read_beside_numbered_negatives(tmp_path: Path):
    row = {"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "scores": [3, 1.5, 0]}
    assert pair(tmp_path, **row).scores == (3.0, 1.5, 0.0)


def test_tables_are_read_in_the_same_forms(tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_text("anchor,positive,negative_1,negative_2\nq,p,n,\n")
    expected = Pair(id="rows:1", query="q", positives=("p",), negatives=("n",))
    assert read_rows(file, Pair) == [expected]
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"anchor": ["q"], "positive": ["p"], "negative_1": ["n"], "negative_2": [None]}
    table = pyarrow.table(columns, schema=pyarrow.schema([(name, pyarrow.string()) for name in columns]))
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet", Pair) == [expected]


def test_a_named_column_is_taken_and_the_others_are_found_by_their_names(tmp_path: Path):
    file = jsonl(tmp_path, {"question": "q", "answer": "p", "negative_1": "n", "source": "web"})
    [found] = read_rows(file, Pair, {"query": "question", "positives": "answer"})
    assert (found.query, found.positives, found.negatives) == ("q", ("p",), ("n",))
    [found] = read_rows(jsonl(tmp_path, {"query": "x", "anchor": "q", "positive": "p"}), Pair, {"query": "anchor"})
    assert found.query == "q"


def test_two_columns_for_one_field_are_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="'query' and 'anchor' may both hold the query; name the one to read"):
        pair(tmp_path, query="q", anchor="a", positive="p")
    with pytest.raises(DataError, match="'negative' and 'negative_1' may both hold the negatives"):
        pair(tmp_path, query="q", positive="p", negative="n", negative_1="m")


def test_a_missing_or_unknown_column_is_told_with_the_forms_and_the_near_miss(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        pair(tmp_path, anhcor="q", positive="p")
    message = str(caught.value)
    assert "train.jsonl: no column 'query'; there are: positives, anhcor. Did you mean 'anhcor'?" in message
    assert "A pair is read from query or anchor; positives, positive or pos; and" in message
    with pytest.raises(DataError, match=r"column 'negativ' is no field of a Pair .* Did you mean 'negative'\?"):
        pair(tmp_path, anchor="q", positive="p", negativ="n")


def test_a_faulty_row_has_its_line(tmp_path: Path):
    file = jsonl(tmp_path, {"anchor": "q", "positive": "p"}, {"anchor": "", "positive": "p"}, {"anchor": "q"})
    with pytest.raises(DataError) as caught:
        read_rows(file, Pair)
    assert "train.jsonl:2: query: String should have at least 1 character" in str(caught.value)
    assert "train.jsonl:3: this row has no 'positives'" in str(caught.value)


def test_rows_as_burnish_writes_them_are_read_as_before(tmp_path: Path):
    with pytest.raises(DataError, match=r"train.jsonl:1: querry: there is no such key\. Did you mean 'query'"):
        pair(tmp_path, id="1", querry="q", query="q", positives=["p"])
