"""A model that learns preferences: killed and resumed, and in two processes, it goes the same way."""

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
    changes = (f"training.precision={precision}",)
    whole, killed = worker.killed_and_resumed(data / "recipe.yaml", tmp_path, *changes, seed=precision)
    for name in ("log.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    lines = [*Run.open(whole).lines("log.jsonl")]
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path):
    changes = ("training.checkpoint_every=0", "training.epochs=2", "training.precision=fp32")
    one, two = worker.alone_and_in_a_pair(data / "recipe.yaml", tmp_path, *changes)
    assert len(one) == len(two) == 4
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
