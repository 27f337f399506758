"""Pairs of answers from one's own rows: drawn, ranked, told with their provenance, and not drawn twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DataError, RecipeError, RunError
from burnish.generators.local import Local
from burnish.preference_rows import Preference
from burnish.prompt import PromptFormat
from burnish.rag_rows import RagRow
from burnish.recipe import checked
from burnish.records import Chunk, Completion, Message, dump_jsonl, read_jsonl
from burnish.run import read_json
from burnish.steps import preferences as step
from burnish.steps.preferences import preferences
from burnish.steps.preferences_recipe import Preferences, read_preferences

TEXTS = ["red cat", "blue cat", "red cat!", "green"]


class Drawing:
    """A writer whose draws are known; `asked` counts the prompts that it was given."""

    parameters = 0
    asked = 0
    fails_after = 99

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        if Drawing.asked >= Drawing.fails_after:
            raise KeyboardInterrupt
        Drawing.asked += len(prompts)
        done(len(prompts) * count)
        return [["yes"] * count if "always" in prompt[-1].content else TEXTS[:count] for prompt in prompts]


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> type[Drawing]:
    Drawing.asked, Drawing.fails_after = 0, 99
    monkeypatch.setattr(Local, "load", lambda _: Drawing())
    return Drawing


def rows(count: int) -> list[Completion]:
    asked = [f"which {n}" for n in range(count - 1)] + ["always"]
    return [
        Completion(id=f"r{n}", prompt=(Message(role="user", content=text),), completion="red cat")
        for n, text in enumerate(asked)
    ]


def recipe(folder: Path, count: int = 3, **changes: Any) -> Preferences:
    table = folder / "rows.jsonl"
    table.write_text(dump_jsonl(rows(count)), encoding="utf-8")
    writer = {"kind": "local", "model": "none", "temperature": 0.8, "seed": 7}
    value = {"rows": str(table), "writer": writer, "by": [{"kind": "metric", "metric": "token_f1"}], **changes}
    return checked(value, Preferences, where="recipe")


def made(recipe: Preferences, out: Path) -> dict[str, Any]:
    return preferences(recipe, out, say=lambda _: None, progress=lambda *_: None)


@pytest.mark.usefixtures("drawing")
def test_the_best_answer_is_chosen_and_the_worst_rejected(tmp_path: Path) -> None:
    found = made(recipe(tmp_path), tmp_path / "pairs.jsonl")
    pairs = read_jsonl(tmp_path / "pairs.jsonl", Preference)
    assert [(pair.id, pair.chosen, pair.rejected) for pair in pairs] == [
        ("r0", "red cat", "green"),
        ("r1", "red cat", "green"),
    ]
    assert pairs[0].prompt == rows(3)[0].prompt
    assert found["counts"] == {"prompts": 3, "pairs": 2, "tied": 0, "without": {"all answers are the same": 1}}


@pytest.mark.usefixtures("drawing")
def test_provenance_stands_beside_the_pairs(tmp_path: Path) -> None:
    made(recipe(tmp_path), tmp_path / "pairs.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "pairs.answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["outcome"] for line in lines] == ["pair", "pair", "all answers are the same"]
    assert [(one["text"], one["drawn"], one["score"]) for one in lines[0]["answers"]] == [
        ("red cat", 2, 1.0),
        ("blue cat", 1, 0.5),
        ("green", 1, 0.0),
    ]
    assert lines[0]["answers"][0]["rewards"] == {"token F1": 1.0}
    told = read_json(tmp_path / "pairs.preferences.json")
    assert (told["writer"]["temperature"], told["writer"]["seed"], told["rank"]) == (0.8, 7, "token F1")


def test_a_killed_run_goes_on_and_another_gap_draws_nothing(
    tmp_path: Path, drawing: type[Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BLOCK", 2)
    drawing.fails_after = 2
    with pytest.raises(KeyboardInterrupt):
        made(recipe(tmp_path, 5), tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()
    drawing.fails_after = 99
    made(recipe(tmp_path, 5), tmp_path / "pairs.jsonl")
    assert drawing.asked == 5
    before = (tmp_path / "pairs.jsonl").read_bytes()
    made(recipe(tmp_path, 5), tmp_path / "pairs.jsonl")
    assert (tmp_path / "pairs.jsonl").read_bytes() == before
    with pytest.raises(DataError, match=r"no prompt has a pair .*best and worst are nearer than the gap: 4"):
        made(recipe(tmp_path, 5, gap=1.5), tmp_path / "pairs.jsonl")
    assert drawing.asked == 5
    made(recipe(tmp_path, 5, answers=2), tmp_path / "pairs.jsonl")
    assert drawing.asked == 10


@pytest.mark.usefixtures("drawing")
def test_several_rewards_are_weighed(tmp_path: Path) -> None:
    by = [{"kind": "metric", "metric": "token_f1"}, {"kind": "pattern", "pattern": "blue .*", "weight": 3}]
    made(recipe(tmp_path, by=by), tmp_path / "pairs.jsonl")
    assert [pair.chosen for pair in read_jsonl(tmp_path / "pairs.jsonl", Preference)] == ["blue cat"] * 2


@pytest.mark.usefixtures("drawing")
def test_rows_with_passages_are_put_by_their_prompt_and_ranked_without_citations(tmp_path: Path) -> None:
    chunks = (Chunk(id="a", text="red cat"), Chunk(id="b", text="dog"))
    row = RagRow(id="r", question="which", passages=chunks, answer="red cat", gold=("a",))
    (tmp_path / "rag.jsonl").write_text(dump_jsonl([row]), encoding="utf-8")
    prompt = PromptFormat(cite=True)
    changes = {"rows": str(tmp_path / "rag.jsonl"), "prompt": prompt.model_dump()}
    made(recipe(tmp_path, **changes), tmp_path / "pairs.jsonl")
    [pair] = read_jsonl(tmp_path / "pairs.jsonl", Preference)
    assert (pair.prompt, pair.chosen) == (prompt.messages("which", chunks), "red cat")
    with pytest.raises(DataError, match="questions with passages; say in `prompt`"):
        made(recipe(tmp_path, rows=changes["rows"]), tmp_path / "pairs.jsonl")


@pytest.mark.usefixtures("drawing")
def test_what_somebody_wrote_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("mine\n", encoding="utf-8")
    with pytest.raises(RunError, match="was not written by `burnish preferences`"):
        made(recipe(tmp_path), tmp_path / "pairs.jsonl")


def test_the_command_draws_from_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(dump_jsonl(tiny.completions(6)), encoding="utf-8")
    llama = str(tiny.tiny_llama(tmp_path / "llama"))
    arguments = ["preferences", "rows.jsonl", "--writer", llama, "--answers", "3", "--out", "pairs.jsonl"]
    told = CliRunner().invoke(app, [*arguments, "--by", "token_f1", "--set", "gap=0.001"], catch_exceptions=False)
    assert told.exit_code == 0
    assert read_jsonl(Path("pairs.jsonl"), Preference)
    with pytest.raises(RecipeError, match="--by tokenf1"):
        read_preferences(Path("rows.jsonl"), by="tokenf1")
