import json
import sys
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.records import Labelled, Pair
from burnish.table_files import read_table
from burnish.tables import read_rows

pa = pytest.importorskip("pyarrow", reason="Parquet is an optional extra")
parquet = pytest.importorskip("pyarrow.parquet")


def saved(path: Path, columns: dict, *, metadata: dict | None = None) -> Path:
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def test_parquet_becomes_rows_with_nothing_where_nothing_is(tmp_path):
    path = saved(tmp_path / "rows.parquet", {"text": ["one", "two"], "label": [1, 2], "group": [None, "g"]})
    assert read_rows(path, Labelled) == [
        Labelled(id="rows:1", text="one", label="1"),
        Labelled(id="rows:2", text="two", label="2", group="g"),
    ]


def test_of_parquet_only_the_needed_columns_are_read(tmp_path):
    columns = {"q": ["a"], "right": [{"texts": ["x", "y"], "n": 1}], "image": [b"\xff" * 9], "label": [None]}
    path = saved(tmp_path / "rows.parquet", columns)
    table = read_table(path, [], needed={"q", "right.texts"})
    assert table.columns == ("q", "right", "image", "label")
    assert table.rows[0].cells == {"q": "a", "right": {"texts": ["x", "y"], "n": 1}}
    [pair] = read_rows(path, Pair, {"query": "q", "positives": "right.texts"})
    assert (pair.query, pair.positives) == ("a", ("x", "y"))
    with pytest.raises(DataError, match=r"rows\.parquet: row 1: this row has no 'label'"):
        read_rows(path, Labelled, {"text": "q"})


def test_numbers_of_classes_become_their_names(tmp_path):
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = saved(tmp_path / "rows.parquet", {"text": ["a", "b"], "label": [1, 0]}, metadata=metadata)
    assert [row.label for row in read_rows(path, Labelled)] == ["yes", "no"]
    unknown = saved(tmp_path / "unknown.parquet", {"text": ["a"], "label": [-1]}, metadata=metadata)
    with pytest.raises(DataError, match="this row has no 'label'"):
        read_rows(unknown, Labelled)


def test_a_damaged_file_and_a_missing_library_are_told_apart(tmp_path, monkeypatch):
    path = saved(tmp_path / "rows.parquet", {"text": ["a"], "label": ["b"]})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rows\.parquet: this is not Parquet, or damaged: "):
        read_rows(path, Labelled)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"reading \.parquet needs pyarrow: pip install 'burnish\[parquet\]'"):
        read_rows(path, Labelled)


def test_an_empty_table_of_parquet_is_an_error(tmp_path):
    path = saved(tmp_path / "rows.parquet", {"text": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    with pytest.raises(DataError, match="the table holds no rows"):
        read_rows(path, Labelled)


def test_numbers_of_several_classes_become_their_names(tmp_path):
    features = {"label": {"feature": {"names": ["no", "yes"], "_type": "ClassLabel"}, "_type": "List"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = saved(tmp_path / "rows.parquet", {"text": ["a"], "label": [[1, 0]]}, metadata=metadata)
    assert read_rows(path, Labelled)[0].label == ("yes", "no")
