"""A run that is killed and resumed ends as if nothing had happened."""

import os
import random
import signal
from pathlib import Path

import pytest

import tiny
import worker
from burnish.errors import RunError
from burnish.records import dump_jsonl
from burnish.run import Run, locked, read_json

KILLS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, rows and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_llama(folder / "llama")
    (folder / "train.jsonl").write_text(dump_jsonl(tiny.completions(24)))
    (folder / "dev.jsonl").write_text(dump_jsonl(tiny.completions(6, seed=1)))
    (folder / "recipe.yaml").write_text(
        f"""\
task: generate
model: {folder / "llama"}
method: {{kind: lora, rank: 4, dropout: 0.1}}
data: {{train: {folder / "train.jsonl"}, dev: {folder / "dev.jsonl"}}}
training: {{epochs: 10, batch: 8, micro_tokens: 64, precision: fp32, evaluations: 6, checkpoint_every: 2}}
seed: 3
"""
    )
    return folder


def results(run: Path) -> dict[str, bytes]:
    files = ("log.jsonl", "dev.jsonl", "model/adapter_model.safetensors", "model/adapter_config.json")
    return {name: (run / name).read_bytes() for name in files}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_killed_five_times_ends_bit_for_bit_like_one_that_was_not(data: Path, tmp_path: Path, precision: str):
    recipe, whole, killed = str(data / "recipe.yaml"), tmp_path / "whole", tmp_path / "killed"
    settings = ("--set", f"training.precision={precision}")
    all_calls = worker.calls(("train", recipe, "--run", str(whole), *settings), tmp_path / "calls")
    draw = random.Random(precision)
    moments = [draw.randrange(all_calls // 7, all_calls // 4) for _ in range(KILLS)]
    first = worker.burnish("train", recipe, "--run", str(killed), *settings, at_call=moments[0])
    later = [worker.burnish("resume", str(killed), at_call=moment) for moment in moments[1:]]
    assert [first, *later] == [-signal.SIGKILL] * KILLS
    assert len(Run.open(killed).lines("log.jsonl")) > 2  # it got somewhere meanwhile
    assert worker.burnish("resume", str(killed)) == 0
    assert results(killed) == results(whole)
    assert not (killed / "checkpoints").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_saves_the_run_and_sets_the_exit_code(data: Path, tmp_path: Path, number: signal.Signals, code: int):
    recipe, run = str(data / "recipe.yaml"), tmp_path / "run"
    settings = ("--set", "training.checkpoint_every=0", "--set", "training.evaluations=0")
    calls = worker.calls(("train", recipe, "--run", str(tmp_path / "whole"), *settings), tmp_path / "calls")
    train = ("train", recipe, "--run", str(run), *settings)
    assert worker.burnish(*train, at_call=calls // 2, number=number) == code
    [checkpoint] = (run / "checkpoints").iterdir()
    assert read_json(checkpoint / "state.json")["step"] == len((run / "log.jsonl").read_text().splitlines())
    assert read_json(run / "manifest.json")["status"] == "started"
    assert worker.burnish("resume", str(run)) == 0
    adapter = "model/adapter_model.safetensors"
    assert (run / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()
    assert (run / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(data: Path, tmp_path: Path):
    recipe, whole, run = str(data / "recipe.yaml"), tmp_path / "whole", tmp_path / "run"
    calls = worker.calls(("train", recipe, "--run", str(whole)), tmp_path / "calls")
    assert worker.burnish("train", recipe, "--run", str(run), at_call=calls * 3 // 4) == -signal.SIGKILL
    newest = max(path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    content = bytearray((newest / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(content)
    assert worker.burnish("resume", str(run)) == 0
    assert results(run) == results(whole)


def test_rows_that_changed_since_are_refused(data: Path, tmp_path: Path):
    rows, run = tmp_path / "train.jsonl", tmp_path / "run"
    rows.write_text(dump_jsonl(tiny.completions(24)))
    settings = ("--set", f"data.train={rows}")
    calls = worker.calls(
        ("train", str(data / "recipe.yaml"), "--run", str(tmp_path / "whole"), *settings), tmp_path / "calls"
    )
    train = ("train", str(data / "recipe.yaml"), "--run", str(run), *settings)
    assert worker.burnish(*train, at_call=calls // 2) == -signal.SIGKILL
    rows.write_text(dump_jsonl(tiny.completions(24, seed=9)))
    assert worker.burnish("resume", str(run)) == 2


def test_a_second_process_in_the_same_folder_is_refused(data: Path, tmp_path: Path):
    with locked(tmp_path):
        assert worker.burnish("train", str(data / "recipe.yaml"), "--run", str(tmp_path)) == 2
    assert not (tmp_path / "manifest.json").exists()
    assert worker.burnish("train", str(data / "recipe.yaml"), "--run", str(tmp_path)) == 0
    assert worker.burnish("train", str(data / "recipe.yaml"), "--run", str(tmp_path)) == 2  # a finished run stands here


def test_the_lock_names_the_process_and_ends_with_it(tmp_path: Path):
    with locked(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} is at work in this folder"):
        locked(tmp_path).__enter__()
    with locked(tmp_path):
        pass


def test_two_processes_have_the_loss_and_the_gradient_of_one(data: Path, tmp_path: Path):
    settings = ("--set", "training.evaluations=0", "--set", "training.checkpoint_every=0", "--set", "method=full")
    recipe = str(data / "recipe.yaml")
    assert worker.burnish("train", recipe, "--run", str(tmp_path / "one"), *settings) == 0
    assert worker.pair("train", recipe, "--run", str(tmp_path / "two"), *settings) == [0, 0]
    one, two = (Run.open(tmp_path / name).lines("log.jsonl") for name in ("one", "two"))
    assert [line["units"] for line in two] == [line["units"] for line in one]
    assert (two[0]["loss"], two[0]["grad_norm"]) == pytest.approx((one[0]["loss"], one[0]["grad_norm"]), rel=1e-6)
    for key in ("loss", "grad_norm"):
        assert [line[key] for line in two] == pytest.approx([line[key] for line in one], rel=1e-4)
    assert Run.open(tmp_path / "two").manifest["status"] == "finished"
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
