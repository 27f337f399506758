import sys
from fnmatch import fnmatch
from pathlib import Path
from shutil import copyfile

import huggingface_hub
import pytest

from burnish.data_hub import fetch_split, split_name
from burnish.errors import DataError
from burnish.records import Labelled
from burnish.tables import read_rows

CSV = "text,label\none,x\ntwo,y\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Stand in for the hub: a folder for each branch, and a cache that is filled as the patterns say."""

    def snapshot_download(name, *, repo_type, revision, allow_patterns):
        assert (name, repo_type) == ("owner/name", "dataset")
        branch, cache = tmp_path / (revision or "main").replace("/", "_"), tmp_path / "cache" / str(revision)
        if not branch.is_dir():
            raise OSError("there is no such branch.\nmore lines")
        for file in (file for file in branch.rglob("*") if file.is_file()):
            inside = file.relative_to(branch).as_posix()
            if any(fnmatch(inside, pattern) for pattern in allow_patterns):
                (cache / inside).parent.mkdir(parents=True, exist_ok=True)
                copyfile(file, cache / inside)
        return str(cache)

    def put(*names: str, branch: str = "main") -> None:
        for name in names:
            path: Path = tmp_path / branch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CSV if name.endswith(".csv") else '{"text": "t", "label": "z"}\n')

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return put


def names(address: str) -> list[str]:
    return [path.name for path in fetch_split(address)]


def test_an_address_names_data_set_and_split():
    assert split_name("hub:owner/name") == ("owner/name", "train")
    assert split_name("hub:name:en/dev") == ("name", "en/dev")
    for wrong in ("hub:", "hub:a/b/c", "owner/name", "hub:a/b:../c", "hub:a b"):
        with pytest.raises(DataError, match="hub:owner/name or hub:owner/name:split"):
            split_name(wrong)


def test_the_parts_of_a_split_are_one_table_with_ids_in_a_row(hub):
    hub("data/train-00001-of-00002.csv", "data/train-00000-of-00002.csv", "data/test-00000-of-00001.csv", "README.md")
    assert [row.id for row in read_rows("hub:owner/name", Labelled)] == ["train:1", "train:2", "train:3", "train:4"]
    assert [row.id for row in read_rows("hub:owner/name:test", Labelled)] == ["test:1", "test:2"]


def test_a_split_is_a_word_of_its_own_in_the_files_name(hub):
    hub("train.csv", "training.csv", "pretrain.csv", "train.py", "test.csv")
    assert names("hub:owner/name:train") == ["train.csv"]
    assert names("hub:owner/name:test") == ["test.csv"]  # although train was fetched before


def test_several_tables_are_asked_about_and_one_can_be_named(hub):
    hub("en/train.csv", "en/train.jsonl", "de/train.csv")
    with pytest.raises(DataError, match=r"could be meant \(de/train.csv, en/train.csv, en/train.jsonl\); name the"):
        fetch_split("hub:owner/name")
    assert names("hub:owner/name:de/train") == ["train.csv"]
    assert names("hub:owner/name:en/train.jsonl") == ["train.jsonl"]


def test_the_hubs_own_copy_is_taken_where_there_is_no_table(hub):
    hub("name.py")
    hub("default/train/0000.parquet", "default/test/0000.parquet", branch="refs_convert_parquet")
    [path] = fetch_split("hub:owner/name:test")
    assert path.as_posix().endswith("default/test/0000.parquet")


def test_a_split_that_is_not_there_is_an_error(hub):
    hub("train.csv")
    with pytest.raises(DataError, match=r"no table file for the split 'dev' .*its Parquet copy cannot be had: the hub"):
        fetch_split("hub:owner/name:dev")


def test_without_a_network_or_the_library_the_error_says_what_to_do(monkeypatch):
    with pytest.raises(DataError, match=r"hub:owner/name: the hub did not give this data set: .*or put its files into"):
        fetch_split("hub:owner/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"needs huggingface_hub: pip install huggingface_hub"):
        fetch_split("hub:owner/name")
