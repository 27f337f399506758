"""A retriever and a generator that learn together: killed and resumed, and in two processes, they go the same way."""

from pathlib import Path

import pytest

import tiny
import worker
from burnish.records import Chunk, Question, dump_jsonl
from burnish.run import Run

WORDS = ("cat", "dog", "fish", "bird", "red", "green", "blue", "left")


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


TRAININGS = {
    "drift": ("task.towers=both", "task.refresh={drift: 1.0e-4, look_every: 1, rerank: 6}", "training.precision=bf16"),
    "turns": ("task.schedule=alternating", "task.turn_steps=2"),
    "kept": ("task.trains=retriever",),
}


@pytest.mark.parametrize("training", TRAININGS)
def test_a_run_that_was_killed_ends_bit_for_bit_like_one_that_was_not(
    training: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    changes = ("training.precision=fp32", *TRAININGS[training])
    whole, killed = worker.killed_and_resumed(data / "recipe.yaml", tmp_path, *changes, seed=training)
    saved = [path.relative_to(whole) for path in (whole / "model").rglob("*.safetensors")]
    assert len(saved) == (2 if "task.towers=both" in changes else 3)  # the tiny retriever has one tower
    for name in (Path("log.jsonl"), *saved):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    lines = [*Run.open(whole).lines("log.jsonl")]
    if training != "kept":  # random words teach a retriever alone nothing
        assert lines[-1]["loss"] < lines[0]["loss"]
    for line in lines:
        different = line["different passages, 50 steps"] * 16 * line["step"]  # four passages of four questions a step
        assert round(different) == pytest.approx(different)
        assert line["different passages"] * 16 <= different + 1e-6 <= 24 + 2e-6
        halves = [line.get(f"grad_norm {half}", 0) for half in ("retriever", "generator")]
        assert sum(norm**2 for norm in halves) ** 0.5 == pytest.approx(line["grad_norm"], rel=1e-5)
        if training == "turns":
            assert (halves[0] > 0) == ((line["step"] - 1) % 4 >= 2)
    if training == "drift":
        assert sum(line["index anew"] for line in lines) >= 2
        assert any(0 < line.get("index cosine", 0) < 0.999999 for line in lines)
        assert lines[0]["kl"] == pytest.approx(0, abs=1e-2)
        assert lines[-1]["kl"] > lines[0]["kl"]


@pytest.mark.parametrize(
    "more", [(), ("task.towers=both", "task.refresh={every: 2, look_every: 3}")], ids=["queries", "both"]
)
def test_two_processes_learn_what_one_does(more: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    changes = ("training.checkpoint_every=0", "training.epochs=2", "training.precision=fp32", *more)
    one, two = worker.alone_and_in_a_pair(data / "recipe.yaml", tmp_path, *changes)
    assert len(one) == len(two) == 4
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
