"""A run with a queue of passages that is killed and resumed ends as if nothing had happened."""

import random
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

import tiny
import worker
from burnish.records import dump_jsonl
from burnish.run import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, rows and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_bert(folder / "bert")
    (folder / "train.jsonl").write_text(dump_jsonl(tiny.pairs(24)))
    (folder / "recipe.yaml").write_text(
        f"""\
task: {{kind: retrieve, queue: {{passages: 20, momentum: 0.9}}, query_tokens: 16, passage_tokens: 24}}
model: {folder / "bert"}
method: {{kind: full, learning_rate: 1.0e-3}}
data: {{train: {folder / "train.jsonl"}}}
training: {{epochs: 8, batch: 6, evaluations: 0, checkpoint_every: 3}}
seed: 3
"""
    )
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_killed_three_times_ends_bit_for_bit_like_one_that_was_not(data: Path, tmp_path: Path, precision: str):
    recipe, whole, killed = str(data / "recipe.yaml"), tmp_path / "whole", tmp_path / "killed"
    settings = ("--set", f"training.precision={precision}")
    all_calls = worker.calls(("train", recipe, "--run", str(whole), *settings), tmp_path / "calls")
    draw = random.Random(precision)
    moments = [draw.randrange(all_calls // 5, all_calls // 3) for _ in range(3)]
    first = worker.burnish("train", recipe, "--run", str(killed), *settings, at_call=moments[0])
    later = [worker.burnish("resume", str(killed), at_call=moment) for moment in moments[1:]]
    assert [first, *later] == [-signal.SIGKILL] * 3
    kept = load_file(max((killed / "checkpoints").glob("[0-9]*")) / "weights.safetensors")
    assert any(tensor.shape == (20, 32) and tensor.any() for tensor in kept.values())
    assert worker.burnish("resume", str(killed)) == 0
    for name in ("log.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_several_processes_are_refused_a_queue_of_their_own(data: Path, tmp_path: Path):
    assert worker.pair("train", str(data / "recipe.yaml"), "--run", str(tmp_path / "two")) == [2, 2]
    assert Run.open(tmp_path / "two").manifest["status"] == "started"
