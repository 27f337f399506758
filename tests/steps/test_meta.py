"""A start learned from many tasks: tasks held out, rounds that go on after a stop, an adapter to begin with."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import Interrupted, RecipeError, RunError
from burnish.recipe import Recipe, checked
from burnish.records import Labelled, dump_jsonl
from burnish.run import Run
from burnish.steps.meta import meta
from burnish.steps.meta_recipe import Meta
from burnish.steps.train import train
from burnish.train.outer import Noted

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "meta" / "many_tasks.yaml"
WORDS = {
    "colours": {"red": ["the cat", "one fish"], "blue": ["a dog", "bird and cat"]},
    "numbers": {"one": ["the cat", "two three"], "two": ["a dog", "fish"]},
    "animals": {"cat": ["red one", "green"], "dog": ["blue two", "left"]},
    "sides": {"left": ["one cat", "red fish"], "right": ["two dog", "blue bird"]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and the tables of four tasks."""
    folder = tmp_path_factory.mktemp("meta")
    tiny.tiny_llama(folder / "llama")
    for name, labels in WORDS.items():
        rows = [Labelled(id=f"{t}", text=t, label=label) for label, texts in labels.items() for t in texts]
        (folder / f"{name}.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    return folder


def settings(place: Path, **more: Any) -> dict[str, Any]:
    task = {"kind": "fewshot", "templates": [{"ask": "{text} ?"}], "metrics": ["accuracy"]}
    return {
        "tasks": {
            name: {"train": str(place / f"{name}.jsonl"), "test": str(place / f"{name}.jsonl"), "task": task}
            for name in WORDS
        },
        "held_out": ["sides"],
        "model": str(place / "llama"),
        "method": {"kind": "ia3", "learning_rate": 0.05},
        "rounds": 6,
        "inner_steps": 3,
        "training": {"batch": 4, "precision": "fp32", "evaluations": 0},
        "checkpoint_every": 2,
        **more,
    }


def recipe_of(place: Path, **more: Any) -> Meta:
    return checked(settings(place, **more), Meta, where="recipe")


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.mark.parametrize("how", ["reptile", "fomaml", "multitask"])
def test_a_start_is_learned_saved_and_begun_with(place: Path, how: str, tmp_path: Path) -> None:
    found = meta(recipe_of(place, how=how), tmp_path / "meta", say=quiet, progress=quiet)
    run = Run.open(tmp_path / "meta")
    lines = run.lines("log.jsonl")
    if how == "multitask":
        assert len(lines) == 6 * 3
        assert lines[-1]["loss"] < lines[0]["loss"]
    else:
        assert [line["step"] for line in lines] == [*range(1, 7)]
        assert Counter(line["task"] for line in lines) == {"colours": 2, "numbers": 2, "animals": 2}
        assert {line["task"] for line in lines[:3]} == {"colours", "numbers", "animals"}
        assert all(line["moved"] > 0 for line in lines)
    assert found["rows"] == {"colours": 4, "numbers": 4, "animals": 4}
    sides = found["held_out"]["sides"]
    assert sides["rows"] == 4
    assert 0 <= sides["after"]["accuracy"]["value"] <= 1
    assert sides["gain"]["accuracy"]["difference"] == pytest.approx(
        sides["after"]["accuracy"]["value"] - sides["before"]["accuracy"]["value"]
    )
    recipe = Recipe.model_validate(
        {
            "task": settings(place)["tasks"]["sides"]["task"],
            "model": str(place / "llama"),
            "method": {"kind": "ia3"},
            "start": str(tmp_path / "meta" / "model"),
            "data": {"train": str(place / "sides.jsonl")},
            "training": {"epochs": 1, "batch": 4, "precision": "fp32", "evaluations": 0},
        }
    )
    begun = train(recipe, tmp_path / "begun", say=quiet, progress=quiet).lines("log.jsonl")
    plain = train(recipe.model_copy(update={"start": None}), tmp_path / "plain", say=quiet, progress=quiet)
    assert begun[0]["loss"] != pytest.approx(plain.lines("log.jsonl")[0]["loss"], rel=1e-3)


@pytest.mark.parametrize("how", ["reptile", "fomaml", "multitask"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(place: Path, how: str, tmp_path: Path) -> None:
    recipe = recipe_of(place, how=how)
    meta(recipe, tmp_path / "whole", say=quiet, progress=quiet)
    met = 0

    def stop(name: str, *_: Any) -> None:
        nonlocal met
        met += name.startswith("learning")
        if met == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        meta(recipe, tmp_path / "stopped", say=quiet, progress=stop)
    meta(recipe, tmp_path / "stopped", say=quiet, progress=quiet)
    for name in ("log.jsonl", "model/adapter_model.safetensors", "meta.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_stop_at_the_gradient_of_further_rows_takes_it_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(place, how="fomaml")
    meta(recipe, tmp_path / "whole", say=quiet, progress=quiet)
    plain, met = Noted.step, 0

    def stopped(noted: Noted, closure: Any = None) -> None:
        nonlocal met
        met += 1
        plain(noted, closure)
        if met == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Noted, "step", stopped)
    with pytest.raises(Interrupted):
        meta(recipe, tmp_path / "stopped", say=quiet, progress=quiet)
    meta(recipe, tmp_path / "stopped", say=quiet, progress=quiet)
    for name in ("log.jsonl", "model/adapter_model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_finished_run_is_read_back_and_another_recipe_is_refused(place: Path, tmp_path: Path) -> None:
    recipe = recipe_of(place, rounds=1)
    found = meta(recipe, tmp_path / "meta", say=quiet, progress=quiet)
    before = (tmp_path / "meta" / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    assert meta(recipe, tmp_path / "meta", say=quiet, progress=quiet) == found
    assert (tmp_path / "meta" / "model" / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="a finished run stands here"):
        meta(recipe_of(place, rounds=2), tmp_path / "meta", say=quiet, progress=quiet)


def test_the_command_learns_a_start_and_shows_what_it_does_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.read_text(encoding="utf-8").replace("embedded/smollm2", str(place / "llama"))
    (tmp_path / "many.yaml").write_text(text, encoding="utf-8")
    for name, table in (("complaints", "colours"), ("moods", "numbers"), ("topics", "sides"), ("topics_test", "sides")):
        rows = [f"{text},{label}" for label, texts in WORDS[table].items() for text in texts]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    small = ["--set", "rounds=2", "--set", "training.precision=fp32"]
    result = CliRunner().invoke(app, ["meta", "many.yaml", *small])
    assert result.exit_code == 0, result.output
    assert "topics" in result.output
    assert "runs/many/model" in result.output.replace("\n", "")
    assert (tmp_path / "runs" / "many" / "model" / "adapter_config.json").is_file()


def test_what_is_no_recipe_of_many_tasks_is_refused(place: Path) -> None:
    other = {"kind": "fewshot", "loss": {"kind": "t_few", "lm": 0}}
    for more, words in (
        ({"held_out": ["side"]}, r"no task is called 'side'\. Did you mean 'sides'"),
        ({"held_out": [*WORDS]}, "every task is, and none is left"),
        ({"tasks": {**settings(place)["tasks"], "x": {"train": "x", "task": "generate"}}}, "not generate"),
        ({"tasks": {**settings(place)["tasks"], "x": {"train": "x", "task": other}}}, "tasks.x: its loss differs from"),
    ):
        with pytest.raises(RecipeError, match=words):
            recipe_of(place, **more)
