"""A run that is killed and resumed ends as if nothing had happened."""

import random
import signal
from pathlib import Path

import pytest
import tiny
import worker

from burnish.records import dump_jsonl
from burnish.run import read_json

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
training: {{epochs: 4, batch: 8, micro_tokens: 64, precision: fp32, evaluations: 3, checkpoint_every: 2}}
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
    moments = [draw.randrange(all_calls // 5, all_calls // 2) for _ in range(KILLS)]
    kill = -signal.SIGKILL
    assert worker.burnish("train", recipe, "--run", str(killed), *settings, at_call=moments[0]) == kill
    codes = [worker.burnish("resume", str(killed), at_call=moment) for moment in moments[1:]]
    assert codes[0] == kill
    assert set(codes) <= {kill, 0, 2}  # one that comes near the end may get there before its moment
    if read_json(killed / "manifest.json")["status"] != "finished":
        assert worker.burnish("resume", str(killed)) == 0
    assert results(killed) == results(whole)
    assert not (killed / "checkpoints").exists()
