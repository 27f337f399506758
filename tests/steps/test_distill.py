import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import DataError, RunError
from burnish.generators import Generator
from burnish.generators.local import Local
from burnish.records import Completion, Message, read_jsonl
from burnish.steps.distill import BLOCK, EMPTY, distill


class Answering:
    """A writer that says how long the prompt is, and counts what it was asked."""

    parameters = 0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        self.asked += [prompt[-1].content for prompt in prompts]
        done(len(prompts))
        return ["" if "nothing" in prompt[-1].content else f" {len(prompt[-1].content)} " for prompt in prompts]

    def sample(self, *_: Any, **__: Any) -> list[list[str]]:
        raise NotImplementedError


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Answering:
    found = Answering()
    monkeypatch.setattr(Local, "load", lambda _: found)
    return found


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(source: Path, out: Path, *, teacher: Generator | None = None) -> dict[str, Any]:
    return distill(source, out, teacher or Local(model="a"), say=lambda _: None, progress=lambda *_: None)


def test_the_teachers_answers_become_rows_to_train_on(writer: Answering, tmp_path: Path):
    chat = [{"role": "user", "content": "how many?"}]
    rows = [{"id": "a", "prompt": "count", "completion": "one"}, {"id": "b", "prompt": chat, "completion": "two"}]
    told = run(table(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl", Completion) == [
        Completion(id="a", prompt="count", completion="5", others=("one",)),
        Completion(id="b", prompt=(Message(role="user", content="how many?"),), completion="9", others=("two",)),
    ]
    assert json.loads((tmp_path / "out.distill.json").read_text()) == told
    assert told["teacher"]["model"] == "a"
    assert told["counts"] == {"prompts": 2, "rows": 2, "left out": {}}


def test_an_empty_answer_is_left_out_with_its_reason(writer: Answering, tmp_path: Path):
    source = table(tmp_path / "rows.jsonl", [{"id": "a", "prompt": "nothing"}, {"id": "b", "prompt": "some"}])
    told = run(source, tmp_path / "out.jsonl")
    assert told["counts"]["left out"] == {EMPTY: 1}
    assert json.loads((tmp_path / "out.rejected.jsonl").read_text())["id"] == "a"
    with pytest.raises(DataError, match="the teacher answered none of the 1 prompts"):
        run(table(tmp_path / "none.jsonl", [{"id": "a", "prompt": "nothing"}]), tmp_path / "none.out.jsonl")


def test_no_answer_is_written_twice_by_the_same_teacher(writer: Answering, tmp_path: Path):
    rows = [{"id": str(number), "prompt": f"say {number}"} for number in range(BLOCK + 2)]
    source, out = table(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    run(source, out)
    first = out.read_text()
    table(source, [*rows, {"id": "more", "prompt": "more"}])
    run(source, out)
    assert writer.asked.count("say 0") == 1
    assert writer.asked[-1] == "more"
    assert out.read_text().startswith(first)
    run(source, out, teacher=Local(model="b"))
    assert writer.asked.count("say 0") == 2


def test_what_somebody_else_wrote_is_not_overwritten(writer: Answering, tmp_path: Path):
    source = table(tmp_path / "rows.jsonl", [{"id": "a", "prompt": "some"}])
    out = table(tmp_path / "out.jsonl", [{"mine": 1}])
    with pytest.raises(RunError, match="was not written by `burnish distill`"):
        run(source, out)
    assert not writer.asked


def test_a_model_on_this_machine_answers(tmp_path: Path):
    teacher = Local(model=str(tiny.tiny_llama(tmp_path / "llama")), max_new_tokens=4)
    source = table(
        tmp_path / "rows.jsonl", [{"messages": [{"role": "user", "content": text}]} for text in ("a", "the")]
    )
    run(source, tmp_path / "out.jsonl", teacher=teacher)
    [first, second] = read_jsonl(tmp_path / "out.jsonl", Completion)
    assert [first.completion] == teacher.load().write([(Message(role="user", content="a"),)], done=lambda _: None)
    assert second.prompt == (Message(role="user", content="the"),)
