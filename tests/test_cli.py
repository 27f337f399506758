"""What a user meets at the command line: one clear message, an exit code, nothing half-written."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny
from burnish.cli import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Burnish = Callable[..., Done]


@pytest.fixture
def burnish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Burnish:
    """Return a function that runs the command as a user would, in this process."""

    def run(*arguments: str | Path, cwd: Path) -> Done:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr("sys.argv", ["burnish", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


def recipe(folder: Path, **changes: str) -> Path:
    """Write a recipe for a tiny encoder with two good rows, and return its path."""
    if not (folder / "bert").exists():
        tiny.tiny_bert(folder / "bert")
    rows = [{"id": str(i), "text": text, "label": label} for i, (text, label) in enumerate(SAMPLES)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = {
        "task": "{kind: classify, labels: [animal, colour]}",
        "model": str(folder / "bert"),
        "method": "full",
        "data": "{train: train.jsonl}",
        "training": "{epochs: 1, batch: 2, precision: fp32}",
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()), encoding="utf-8")
    return path


SAMPLES = [("the cat", "animal"), ("the dog", "animal"), ("red and green", "colour"), ("blue", "colour")]


def refused(done: Done, *parts: str) -> None:
    """Check for one clear message and exit code 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def test_all_faults_of_a_recipe_are_told_at_once_with_the_near_miss(tmp_path: Path, burnish: Burnish) -> None:
    path = recipe(tmp_path, method="lroa", training="{epochs: 0, bacth: 2}", sede="1")
    done = burnish("train", path, cwd=tmp_path)
    refused(
        done, "no method is called 'lroa'. Did you mean 'lora'?", "training.epochs", "Did you mean 'batch'?", "sede"
    )
    assert not (tmp_path / "runs").exists()


def test_a_label_that_is_not_in_the_list_names_row_and_near_miss(tmp_path: Path, burnish: Burnish) -> None:
    path = recipe(tmp_path, task="{kind: classify, labels: [animals, colour]}")
    refused(burnish("train", path, cwd=tmp_path), "row '0': label 'animal'", "Did you mean 'animals'?")


def test_a_missing_file_and_a_row_that_is_not_json_have_their_place(tmp_path: Path, burnish: Burnish) -> None:
    path = recipe(tmp_path, data="{train: trian.jsonl}")
    missing = "trian.jsonl: there is no such file or folder. Did you mean 'train.jsonl'?"
    refused(burnish("train", path, cwd=tmp_path), missing)
    path = recipe(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"id": "1", "text": "cat", "label"\n{"id": "2", "txt": "dog"}\n')
    done = burnish("train", path, cwd=tmp_path)
    refused(
        done, "train.jsonl:1: this row is not JSON", "train.jsonl:2: txt: there is no such key. Did you mean 'text'?"
    )
    assert not (tmp_path / "runs").exists()


def test_an_unknown_model_is_told_with_what_exists(tmp_path: Path, burnish: Burnish) -> None:
    refused(burnish("train", recipe(tmp_path, model="embedded/minlm"), cwd=tmp_path), "minlm", "Did you mean")


def test_a_run_is_trained_checked_and_not_overwritten(tmp_path: Path, burnish: Burnish) -> None:
    path = recipe(tmp_path)
    checked = burnish("check", path, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "rows: 4 to train on" in checked.stdout
    assert "weights:" in checked.stdout
    assert burnish("train", path, "--set", "training.epochs=2", cwd=tmp_path).returncode == 0
    config = json.loads((tmp_path / "runs" / "recipe" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "animal", "1": "colour"}
    refused(burnish("train", path, cwd=tmp_path), "a finished run stands here", "--run")
    refused(burnish("resume", "runs/recipe", cwd=tmp_path), "this run is finished")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told_with_the_remedy(tmp_path: Path, burnish: Burnish) -> None:
    path = recipe(tmp_path)
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(burnish("train", path, "--run", tmp_path / "locked" / "run", cwd=tmp_path), "no permission")


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path, burnish: Burnish, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x")

    monkeypatch.setattr("os.fsync", full)
    refused(burnish("train", recipe(tmp_path), "--run", "runs/x", cwd=tmp_path), "the disk is full")
    assert [path.name for path in (tmp_path / "runs" / "x").iterdir()] == [".lock"]


def test_leaks_are_listed_and_counted(tmp_path: Path, burnish: Burnish) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "What is the cat?"}\n{"id": "2", "text": "none of it"}\n')
    (tmp_path / "b.csv").write_text("id,text\nx,what is the CAT\n")
    done = burnish("leaks", "a.jsonl", "b.csv", cwd=tmp_path)
    assert done.returncode == 0
    assert "exact  1.00  1  x" in done.stdout
    assert "1 exact and 0 near duplicates among 2 rows" in done.stdout


def test_parts_are_listed_one_line_each(tmp_path: Path, burnish: Burnish) -> None:
    done = burnish("list", "methods", cwd=tmp_path)
    names = ["adapters", "bitfit", "full", "head", "ia3", "lora", "prefix", "prompt"]
    assert [line.split()[0] for line in done.stdout.splitlines()] == names
    refused(burnish("list", "methdos", cwd=tmp_path), "Did you mean 'methods'?")


def test_our_own_mistake_is_told_apart_and_debug_shows_where(
    tmp_path: Path, burnish: Burnish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise KeyError("x")

    monkeypatch.setattr("burnish.steps.parts.parts", broken)
    done = burnish("list", "methods", cwd=tmp_path)
    assert done.returncode == 1
    assert "our mistake: KeyError" in done.stderr
    monkeypatch.setattr("sys.argv", ["burnish", "list", "methods", "--debug"])
    with pytest.raises(KeyError):
        main()
