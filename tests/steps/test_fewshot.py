"""A comparison of ways to learn from a few rows: draws, templates, spreads and gains."""

from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import RecipeError, RunError
from burnish.recipe import Recipe, checked
from burnish.records import Labelled, dump_jsonl
from burnish.run import read_json
from burnish.steps.fewshot import fewshot
from burnish.steps.fewshot_recipe import FewShots
from burnish.steps.train import train

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "meta" / "few_rows.yaml"
TEXTS = {"red": ["the cat", "one fish", "a bird", "left"], "blue": ["a dog", "bird and cat", "two", "right one"]}


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, an adapter to start with, and two tables."""
    folder = tmp_path_factory.mktemp("few")
    tiny.tiny_llama(folder / "llama")
    rows = [Labelled(id=text, text=text, label=label) for label, texts in TEXTS.items() for text in texts]
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    learn(folder, "train", "start")
    return folder


def learn(folder: Path, table: str, run: str) -> None:
    """Train an adapter on a table of the folder."""
    asked = {
        "task": {"kind": "fewshot", "templates": [{"ask": "{text} ?"}], "metrics": ["accuracy"]},
        "model": str(folder / "llama"),
        "method": {"kind": "ia3", "learning_rate": 0.1},
        "data": {"train": str(folder / f"{table}.jsonl")},
        "training": {"epochs": 20, "batch": 8, "precision": "fp32", "evaluations": 0},
    }
    train(Recipe.model_validate(asked), folder / run, say=quiet, progress=quiet)


def recipe_of(place: Path, **more: Any) -> FewShots:
    return checked(
        {
            "train": str(place / "train.jsonl"),
            "test": str(place / "test.jsonl"),
            "task": {"kind": "fewshot", "templates": [{"ask": "{text} ?"}, {"ask": "which is {text}"}]},
            "model": str(place / "llama"),
            "method": {"kind": "ia3", "learning_rate": 0.1},
            "starts": {"known": str(place / "start" / "model")},
            "shots": [2, 4],
            "seeds": 2,
            "steps": 2,
            **more,
        },
        FewShots,
        where="recipe",
    )


def test_every_way_is_measured_over_draws_and_templates(place: Path, tmp_path: Path) -> None:
    found = fewshot(recipe_of(place), tmp_path / "few", say=quiet, progress=quiet)
    rows = {(row["method"], row["start"], row["shots"]): row for row in found["rows"]}
    assert [*rows] == [
        ("zero-shot", "none", 0),
        *(
            (method, start, shots)
            for shots in (2, 4)
            for method, start in (("in context", "none"), ("head", "none"), ("ia3", "none"), ("ia3", "known"))
        ),
    ]
    draws = {"zero-shot": 2, "in context": 4, "head": 2, "ia3": 4}
    for (method, start, shots), row in rows.items():
        assert row["draws"] == draws[method]
        assert row["worst"] <= row["median"] <= row["best"]
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] == 8
        assert (row["kilobytes"] > 0) == (row["seconds"] > 0) == (method in ("head", "ia3"))
        assert [*row["gain"]] == (["no start"] * (start != "none") + ["in context"] if method == "ia3" else [])
        parts = [
            read_json(tmp_path / "few" / "draws" / f"{method.replace(' ', '-')}-{start}-{shots}-{seed}.json")
            for seed in range(1 if method == "zero-shot" else 2)
        ]
        each = [fmean(right) for part in parts for right in part["right"]]
        assert row["value"] == pytest.approx(fmean(each))
        assert row["median"] == pytest.approx(median(each))
    known, plain = rows["ia3", "known", 4], rows["ia3", "none", 4]
    assert known["gain"]["no start"]["difference"] == pytest.approx(known["value"] - plain["value"])
    assert known["value"] > plain["value"]  # its start has learned these very rows


def test_what_is_finished_is_read_back(place: Path, tmp_path: Path) -> None:
    recipe = recipe_of(place, shots=[2], seeds=1, starts={}, in_context=False)
    found = fewshot(recipe, tmp_path / "few", say=quiet, progress=quiet)
    assert {row["method"] for row in found["rows"]} == {"zero-shot", "head", "ia3"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "few" / "draws").iterdir()}
    assert fewshot(recipe, tmp_path / "few", say=quiet, progress=quiet)["rows"] == found["rows"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "few" / "draws").iterdir()} == before
    with pytest.raises(RunError, match="another comparison stands here"):
        fewshot(recipe_of(place), tmp_path / "few", say=quiet, progress=quiet)


def test_the_recipe_of_the_repository_runs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.read_text(encoding="utf-8").replace("embedded/smollm2", str(place / "llama"))
    text = text.replace("runs/many_tasks/model", str(place / "start" / "model"))
    (tmp_path / "few.yaml").write_text(text, encoding="utf-8")
    for name in ("topics", "topics_test"):
        lines = [f"{text},{label}" for label, texts in TEXTS.items() for text in texts]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    small = ["--set", "shots=[4]", "--set", "seeds=1", "--set", "steps=1"]
    result = CliRunner().invoke(app, ["fewshot", "few.yaml", *small])
    assert result.exit_code == 0, result.output
    for word in ("zero-shot", "in context", "many"):
        assert word in result.output


def test_what_is_no_comparison_is_refused(place: Path) -> None:
    for more, words in (({"task": "generate"}, "not generate"), ({"shots": [0]}, "at least one row is drawn")):
        with pytest.raises(RecipeError, match=words):
            recipe_of(place, **more)


def test_of_several_starts_the_nearest_is_the_one_that_explains_the_rows(place: Path, tmp_path: Path) -> None:
    other = place / "other"
    if not other.is_dir():
        rows = [
            Labelled(id=text, text=text, label={"red": "blue", "blue": "red"}[label])
            for label, texts in TEXTS.items()
            for text in texts
        ]
        (place / "other.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
        learn(place, "other", "other")
    starts = {"wrong": str(other / "model"), "known": str(place / "start" / "model")}
    recipe = recipe_of(place, shots=[4], seeds=2, starts=starts, in_context=False, head=False)
    found = fewshot(recipe, tmp_path / "few", say=quiet, progress=quiet)
    rows = {row["start"]: row for row in found["rows"]}
    assert [*rows] == ["none", "wrong", "known", "nearest"]
    assert rows["nearest"]["value"] == rows["known"]["value"]
    for seed in range(2):
        assert read_json(tmp_path / "few" / "draws" / f"ia3-nearest-4-{seed}.json")["chosen"] == "known"
