"""A model that learns from its own texts: killed and resumed, and in two processes, it goes the same way."""

import random
import signal
from pathlib import Path

import pytest

import tiny
import worker
from burnish.records import Prompt, dump_jsonl
from burnish.run import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, rows and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_llama(folder / "llama")
    rows = [Prompt(id=row.id, prompt=row.prompt) for row in tiny.completions(12, longest=6)]
    (folder / "train.jsonl").write_text(dump_jsonl(rows))
    (folder / "recipe.yaml").write_text(
        f"""\
task:
  kind: reinforce
  rewards: [{{kind: pattern, pattern: ".*(cat|dog|bird|fish).*"}}]
  samples: 4
  updates: 2
  max_new_tokens: 4
model: {folder / "llama"}
method: {{kind: full, learning_rate: 3.0e-3}}
data: {{train: {folder / "train.jsonl"}}}
training: {{epochs: 3, batch: 4, precision: fp32, evaluations: 0, checkpoint_every: 2}}
seed: 3
"""
    )
    return folder


def test_a_run_killed_three_times_ends_bit_for_bit_like_one_that_was_not(data: Path, tmp_path: Path):
    recipe, whole, killed = str(data / "recipe.yaml"), tmp_path / "whole", tmp_path / "killed"
    calls = worker.calls(("train", recipe, "--run", str(whole)), tmp_path / "calls")
    draw = random.Random(1)
    moments = [draw.randrange(calls // 4, calls // 2) for _ in range(3)]
    first = worker.burnish("train", recipe, "--run", str(killed), at_call=moments[0])
    later = [worker.burnish("resume", str(killed), at_call=moment) for moment in moments[1:]]
    assert [first, *later] == [-signal.SIGKILL] * 3
    assert worker.burnish("resume", str(killed)) == 0
    for name in ("log.jsonl", "samples.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    lines = [*Run.open(whole).lines("samples.jsonl")]
    assert {line["step"] for line in lines} == {*range(1, 10)}
    assert all(line["reward"] == line["parts"]["pattern"] for line in lines)


def test_two_processes_draw_and_learn_what_one_does(data: Path, tmp_path: Path):
    settings = ("--set", "training.checkpoint_every=0", "--set", "training.epochs=1")
    recipe = str(data / "recipe.yaml")
    assert worker.burnish("train", recipe, "--run", str(tmp_path / "one"), *settings) == 0
    assert worker.pair("train", recipe, "--run", str(tmp_path / "two"), *settings) == [0, 0]
    one, two = ([*Run.open(tmp_path / name).lines("log.jsonl")] for name in ("one", "two"))
    assert [line.keys() for line in two] == [line.keys() for line in one]
    for key in one[0].keys() - {"step", "of"}:
        assert [line[key] for line in two] == pytest.approx([line[key] for line in one], rel=1e-3, abs=1e-5), key
