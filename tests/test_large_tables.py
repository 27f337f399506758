"""Tables that are too large for memory are read as small ones are, and train what these train."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish import sequences, table_files
from burnish.errors import DataError
from burnish.recipe import Recipe, read_recipe
from burnish.records import Labelled, Pair, Record, dump_jsonl, records_fingerprint
from burnish.sequences import Joined
from burnish.steps.train import resume, train
from burnish.stored_rows import RowsOnDisk
from burnish.tables import read_rows

PAIRS = tiny.pairs(20)
TRIPLETS = [
    {"anchor": pair.query, "positive": pair.positives[0], "negative_1": pair.negatives[0], "negative_2": "a cat"}
    for pair in PAIRS
]
FAULTY = '{"id": "1", "query": "a", "positives": ["b"]}\nno\n{"id": "2", "query": ""}\n{"id": "1", "query": "c"'


@pytest.fixture
def all_is_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table_files, "LARGE", -1)
    monkeypatch.setattr(sequences, "IN_MEMORY", 100)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


def written(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("".join(f"{line}\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.usefixtures("all_is_large")
@pytest.mark.parametrize(
    ("name", "rows", "record", "columns"),
    [
        ("a.jsonl", [row.model_dump(mode="json") for row in PAIRS], Pair, {}),
        ("a.jsonl", TRIPLETS, Pair, {}),
        ("a.jsonl", [{"said": row.query, "by": "x"} for row in PAIRS], Labelled, {"text": "said", "label": "by"}),
        ("a.parquet", TRIPLETS, Pair, {}),
        ("a.parquet", [{"said": row.query, "by": "x"} for row in PAIRS], Labelled, {"text": "said", "label": "by"}),
        ("a.csv", TRIPLETS, Pair, {}),
    ],
)
def test_a_large_table_has_the_rows_of_a_small_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    rows: Sequence[dict[str, Any]],
    record: type[Record],
    columns: dict[str, str],
) -> None:
    path = written(tmp_path, name, rows)
    large = read_rows(path, record, columns)
    assert isinstance(large, RowsOnDisk)
    monkeypatch.setattr(table_files, "LARGE", 1 << 20)
    small = read_rows(path, record, columns)
    assert isinstance(small, list)
    assert [*large] == small
    assert records_fingerprint(Joined([large, small])) == records_fingerprint([*small, *small])
    assert len(large) == len(rows)


def test_a_large_table_has_the_faults_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_is_large: None
) -> None:
    plain, foreign = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    plain.write_text(f'{FAULTY}, "positives": ["d"]}}\n')
    foreign.write_text(plain.read_text().replace("query", "anchor"))
    for path in (plain, foreign):
        told = []
        for large in (-1, 1 << 20):
            monkeypatch.setattr(table_files, "LARGE", large)
            with pytest.raises(DataError) as error:
                read_rows(path, Pair)
            told.append(str(error.value))
        assert told[0] == told[1]
        assert "id '1' already stands in" in told[0]
        assert "this row is not JSON" in told[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_bert(folder / "bert")
    (folder / "train.jsonl").write_text(dump_jsonl(tiny.pairs(40)))
    written(folder, "other.jsonl", TRIPLETS)
    (folder / "dev.jsonl").write_text(dump_jsonl(tiny.pairs(6, seed=2)))
    return folder


def recipe(folder: Path, task: str, **data: Any) -> Path:
    given = {"train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl"), **data}
    training = {"epochs": 3, "batch": 8, "precision": "fp32", "evaluations": 2, "checkpoint_every": 2}
    settings = {"task": task, "model": str(folder / "bert"), "data": given, "training": training, "seed": 1}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def results(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("log.jsonl", "dev.jsonl", "model/model.safetensors")}


def broken(what: str, done: int, _of: int) -> None:
    if what.startswith("training") and done == 5:
        raise KeyboardInterrupt


@pytest.mark.parametrize("task", ["retrieve", "late"])
@pytest.mark.parametrize("several", [False, True])
def test_training_on_large_tables_is_that_on_small_ones_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, several: bool
) -> None:
    other = str(folder / "other.jsonl")
    sets = [{"file": str(folder / "train.jsonl"), "weight": 2}, {"file": other, "weight": 1}]
    data = {"train": sets, "rehearsal": {"file": other, "share": 0.2}} if several else {}
    settings = read_recipe(recipe(folder, task, **data), Recipe)
    said: dict[str, list[str]] = {"small": [], "large": []}
    train(settings, tmp_path / "small", say=said["small"].append, progress=lambda *_: None)
    monkeypatch.setattr(table_files, "LARGE", -1)
    monkeypatch.setattr(sequences, "IN_MEMORY", 0)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    train(settings, tmp_path / "large", say=said["large"].append, progress=lambda *_: None)
    assert results(tmp_path / "large") == results(tmp_path / "small")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", say=lambda _: None, progress=broken)
    resume(tmp_path / "cut", say=lambda _: None, progress=lambda *_: None)
    assert results(tmp_path / "cut") == results(tmp_path / "small")
    assert said["large"] == said["small"]
    assert [*(tmp_path / "cache").iterdir()] == []
