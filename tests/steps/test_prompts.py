"""A prompt as a competitor: zero-shot and few-shot are scored as a trained model is, on the same rows, and compared."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import RecipeError, RunError
from burnish.evaluation.run_report import write_run_report
from burnish.recipe import Recipe, checked
from burnish.records import Completion
from burnish.run import read_json
from burnish.steps.evaluate import evaluate, folder_of, untrained
from burnish.steps.train import train


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Return a recipe of twelve chats to train on and six to test."""
    rows = tiny.completions(18)
    for side, found in (("train", rows[:12]), ("test", rows[12:])):
        text = "".join(row.model_dump_json() + "\n" for row in found)
        (tmp_path / f"{side}.jsonl").write_text(text, encoding="utf-8")
    return {
        "task": {"kind": "generate", "metrics": ["token_f1"], "max_new_tokens": 3, "max_tokens": 128},
        "model": str(tiny.tiny_llama(tmp_path / "llama")),
        "method": "lora",
        "data": {side: str(tmp_path / f"{side}.jsonl") for side in ("train", "test")},
        "training": {"epochs": 1, "batch": 6, "precision": "fp32"},
    }


def recipe(table: dict[str, Any], **data: Any) -> Recipe:
    return checked({**table, "data": {**table["data"], **data}}, Recipe, where="recipe")


def test_a_recipe_is_scored_as_it_is_with_its_examples_and_without(table: dict[str, Any], tmp_path: Path) -> None:
    zero = untrained(recipe(table), tmp_path / "zero")
    few = untrained(recipe(table, shots=2), tmp_path / "few")
    found = evaluate(few, data=None, against=str(zero), progress=quiet)
    assert found["n"] == 6
    assert found["scores"].keys() == found["before"].keys() == {"token F1"}
    assert found["gain"]["token F1"]["wins"] + found["gain"]["token F1"]["losses"] >= 0
    again = evaluate(zero, data=None, against=None, progress=quiet)
    assert again["scores"] == found["before"]
    assert "advice" not in found
    assert write_run_report(few).is_file()


def test_examples_change_what_the_model_reads_on_each_side_alike(table: dict[str, Any]) -> None:
    plain, shown = recipe(table), recipe(table, shots=2)
    for side, count in (("train", 12), ("test", 6)):
        before, after = plain.data.rows(side, Completion), shown.data.rows(side, Completion)
        assert len(before) == len(after) == count
        assert [row.completion for row in before] == [row.completion for row in after]
        assert [len(row.prompt) for row in after] == [len(row.prompt) + 4 for row in before]
    train_texts = {row.prompt[-1].content for row in plain.data.rows("train", Completion)}  # type: ignore[union-attr]
    for row in shown.data.rows("test", Completion):
        assert {row.prompt[0].content, row.prompt[2].content} <= train_texts  # type: ignore[union-attr]


def test_a_model_trained_with_examples_is_held_against_a_prompt(table: dict[str, Any], tmp_path: Path) -> None:
    run = train(recipe(table, shots=1), tmp_path / "both", say=quiet, progress=quiet)
    told = read_json(run.folder / "evaluation" / "test.json")
    few = untrained(recipe(table, shots=1), tmp_path / "few")
    found = evaluate(run.folder, data=None, against=str(few), progress=quiet)
    assert (found["scores"], found["before"]) == (told["scores"], told["before"])


def test_a_run_is_held_against_a_recipe_file(table: dict[str, Any], tmp_path: Path) -> None:
    run = train(recipe(table), tmp_path / "tuned", say=quiet, progress=quiet)
    few = tmp_path / "few.yaml"
    few.write_text(json.dumps({**table, "data": {**table["data"], "shots": 2}}), encoding="utf-8")
    found = evaluate(run.folder, data=None, against=str(few), progress=quiet)
    direct = evaluate(untrained(recipe(table, shots=2), tmp_path / "few"), data=None, against=None, progress=quiet)
    assert found["before"] == direct["scores"]


def test_the_command_scores_a_recipe(table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.yaml").write_text(json.dumps(table), encoding="utf-8")
    told = CliRunner().invoke(app, ["evaluate", "few.yaml", "--set", "data.shots=2"], catch_exceptions=False)
    assert told.exit_code == 0
    assert "token F1" in told.output
    assert len(Path("runs/few/evaluation/test.predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert CliRunner().invoke(app, ["evaluate", "few.yaml", "--set", "data.shots=2"]).exit_code == 0


def test_what_cannot_be_compared_is_refused(table: dict[str, Any], tmp_path: Path) -> None:
    untrained(recipe(table), tmp_path / "zero")
    with pytest.raises(RunError, match="a finished run stands here"):
        untrained(recipe(table, shots=1), tmp_path / "zero")
    with pytest.raises(RecipeError, match="--run and --set go with a recipe"):
        folder_of(tmp_path / "zero", None, ["seed=1"])
    other = tmp_path / "other.yaml"
    classify = {"task": "classify", "model": table["model"], "data": {"train": "train.jsonl"}}
    other.write_text(json.dumps(classify), encoding="utf-8")
    with pytest.raises(RunError, match="its task classify reads a Labelled a row"):
        evaluate(tmp_path / "zero", data=None, against=str(other), progress=quiet)
    with pytest.raises(RecipeError, match=r"data\.shots: the rows of the task classify"):
        checked({**classify, "data": {"train": "train.jsonl", "shots": 2}}, Recipe, where="recipe")
