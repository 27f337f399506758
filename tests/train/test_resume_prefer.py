"""A model that learns preferences: killed and resumed, and in two processes, it goes the same way."""

import random
import signal
from pathlib import Path

import pytest

import tiny
import worker
from burnish.preference_rows import Preference
from burnish.records import dump_jsonl
from burnish.run import Run

WORDS = ("cat", "dog", "red fish", "a bird and the cat", "green", "one two three", "left", "what is it")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, rows and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_llama(folder / "llama")
    rows = [
        Preference(
            id=text, prompt=f"the {text} question", chosen=f"yes {text}", rejected="no no" if place % 2 else "no"
        )
        for place, text in enumerate(WORDS)
    ]
    (folder / "train.jsonl").write_text(dump_jsonl(rows))
    (folder / "recipe.yaml").write_text(
        f"""\
task: prefer
model: {folder / "llama"}
method: {{kind: full, learning_rate: 1.0e-3}}
data: {{train: {folder / "train.jsonl"}}}
training: {{epochs: 3, batch: 4, evaluations: 0, checkpoint_every: 2, micro_tokens: 24}}
seed: 3
"""
    )
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_was_killed_ends_bit_for_bit_like_one_that_was_not(precision: str, data: Path, tmp_path: Path):
    recipe, whole, killed = str(data / "recipe.yaml"), tmp_path / "whole", tmp_path / "killed"
    settings = ("--set", f"training.precision={precision}")
    calls = worker.calls(("train", recipe, "--run", str(whole), *settings), tmp_path / "calls")
    moment = random.Random(precision).randrange(calls // 2, 3 * calls // 4)
    assert worker.burnish("train", recipe, "--run", str(killed), *settings, at_call=moment) == -signal.SIGKILL
    assert [*(killed / "checkpoints").glob("[0-9]*")]
    assert worker.burnish("resume", str(killed)) == 0
    for name in ("log.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    lines = [*Run.open(whole).lines("log.jsonl")]
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path):
    settings = (
        "--set",
        "training.checkpoint_every=0",
        "--set",
        "training.epochs=2",
        "--set",
        "training.precision=fp32",
    )
    recipe = str(data / "recipe.yaml")
    assert worker.burnish("train", recipe, "--run", str(tmp_path / "one"), *settings) == 0
    assert worker.pair("train", recipe, "--run", str(tmp_path / "two"), *settings) == [0, 0]
    one, two = ([*Run.open(tmp_path / name).lines("log.jsonl")] for name in ("one", "two"))
    assert len(one) == len(two) == 4
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
