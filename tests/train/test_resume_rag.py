"""A retriever and a generator that learn together: killed and resumed, and in two processes, they go the same way."""

from pathlib import Path

import pytest

import tiny
import worker
from burnish.records import Chunk, Question, dump_jsonl
from burnish.run import Run

WORDS = ("cat", "dog", "fish", "bird", "red", "green", "blue", "left")
SAVED = ("retriever/queries/model.safetensors", "retriever/passages/model.safetensors", "generator/model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both models, rows, passages and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_llama(folder / "llama")
    tiny.tiny_bert(folder / "bert")
    rows = [Question(id=word, question=f"what is the {word}", answers=(f"{word} is one",)) for word in WORDS]
    chunks = [Chunk(id=f"{word} {n}", text=f"the {word} is {n}") for word in WORDS for n in ("one", "two", "three")]
    (folder / "train.jsonl").write_text(dump_jsonl(rows))
    (folder / "passages.jsonl").write_text(dump_jsonl(chunks))
    (folder / "recipe.yaml").write_text(
        f"""\
task:
  kind: rag
  passages: {folder / "passages.jsonl"}
  retriever: {folder / "bert"}
  retriever_method: {{kind: full, learning_rate: 1.0e-3}}
  start_weight: 0.1
  top_k: 4
  query_tokens: 16
  passage_tokens: 16
  prompt: {{passages: 2}}
model: {folder / "llama"}
method: {{kind: full, learning_rate: 1.0e-3}}
data: {{train: {folder / "train.jsonl"}}}
training: {{epochs: 3, batch: 4, evaluations: 0, checkpoint_every: 2, micro_tokens: 24, dropout: 0}}
seed: 3
"""
    )
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_was_killed_ends_bit_for_bit_like_one_that_was_not(
    precision: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    changes = (f"training.precision={precision}",)
    whole, killed = worker.killed_and_resumed(data / "recipe.yaml", tmp_path, *changes, seed=precision)
    for name in ("log.jsonl", *(f"model/{part}" for part in SAVED)):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    lines = [*Run.open(whole).lines("log.jsonl")]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-2)
    assert lines[-1]["kl"] > lines[0]["kl"]


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    changes = ("training.checkpoint_every=0", "training.epochs=2", "training.precision=fp32")
    one, two = worker.alone_and_in_a_pair(data / "recipe.yaml", tmp_path, *changes)
    assert len(one) == len(two) == 4
    for ours, theirs in zip(one, two, strict=True):
        del ours["different passages"], theirs["different passages"]  # each process counts its own
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
