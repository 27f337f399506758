"""One training run with test rows, its evaluation, and the comparison of methods, at tiny size."""

import csv
import random
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import DataError, RunError
from burnish.methods.prefix import Prefix
from burnish.recipe import Recipe, read_recipe
from burnish.run import Run, read_json
from burnish.steps.evaluate import evaluate
from burnish.steps.methods import methods
from burnish.steps.train import train
from burnish.tables import read_rows


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Return a recipe for texts that are about a cat or about a dog."""
    folder = tmp_path_factory.mktemp("pets")
    draw = random.Random(0)
    for side, count in (("train", 64), ("dev", 16), ("test", 24)):
        with (folder / f"{side}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["said", "about"])
            for number in range(count):
                pet = ("cat", "dog")[number % 2]
                writer.writerow([f"{tiny.sentence(draw, 3)} {pet} {tiny.sentence(draw, 2)}", pet.upper()])
    model = tiny.tiny_bert(folder / "bert")
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
task: {{kind: classify, metrics: [accuracy, calibration, mcc]}}
model: {model}
method: {{kind: full, learning_rate: 3.0e-3}}
data:
  train: {folder / "train.csv"}
  dev: {folder / "dev.csv"}
  test: {folder / "test.csv"}
  columns: {{text: said, label: about}}
training: {{epochs: 6, batch: 8, precision: fp32, evaluations: 1, dropout: 0.0}}
""",
        encoding="utf-8",
    )
    return read_recipe(path, Recipe)


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe, tmp_path_factory.mktemp("runs") / "pets", say=quiet, progress=quiet)


def test_labels_come_from_the_rows_and_are_written_into_the_run(run: Run):
    assert read_recipe(run.folder / "recipe.yaml", Recipe).task.model_dump()["labels"] == ("CAT", "DOG")
    assert read_json(run.folder / "model" / "config.json")["id2label"] == {"0": "CAT", "1": "DOG"}


def test_the_saved_model_is_scored_on_the_test_rows_with_intervals(run: Run):
    found = read_json(run.folder / "evaluation" / "test.json")
    assert found["n"] == 24
    assert list(found["scores"]) == ["accuracy", "ECE", "MCC"]
    accuracy = found["scores"]["accuracy"]
    assert accuracy["value"] > 0.9
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert "gain" not in found  # the base has no trained head
    lines = (run.folder / "evaluation" / "test.predictions.jsonl").read_text().splitlines()
    assert len(lines) == 24


def test_a_run_is_held_against_another_on_the_same_rows(recipe: Recipe, run: Run, tmp_path: Path):
    short = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 0.2})})
    other = train(short, tmp_path / "short", say=quiet, progress=quiet)
    found = evaluate(run.folder, data=None, against=str(other.folder), progress=quiet)
    gain = found["gain"]["accuracy"]
    before = found["before"]["accuracy"]["value"]
    assert gain["difference"] == pytest.approx(found["scores"]["accuracy"]["value"] - before)
    assert gain["wins"] + gain["ties"] + gain["losses"] == 24


def test_an_evaluation_needs_rows_and_a_finished_run(recipe: Recipe, run: Run, tmp_path: Path):
    data = recipe.data.model_copy(update={"test": None})
    bare = train(recipe.model_copy(update={"data": data}), tmp_path / "bare", say=quiet, progress=quiet)
    with pytest.raises(DataError, match=r"names no test rows \(data\.test\); give some with --data"):
        evaluate(bare.folder, data=None, against=None, progress=quiet)
    Run.create(tmp_path / "begun", recipe="", manifest={})
    with pytest.raises(RunError, match="this run has no model yet; `burnish resume"):
        evaluate(tmp_path / "begun", data=None, against=None, progress=quiet)
    with pytest.raises(DataError, match=r"the recipe needs data\.test"):
        methods(
            recipe.model_copy(update={"data": data}), tmp_path / "m", names=["full"], seeds=1, say=quiet, progress=quiet
        )


def test_methods_are_compared_each_in_a_process_of_its_own(recipe: Recipe, run: Run, tmp_path: Path):
    names = ["lora", "prefix"]
    recipe = recipe.model_copy(update={"method": Prefix(reparametrize=64)})  # which an encoder has no place for
    found = methods(recipe, tmp_path / "m", names=names, seeds=2, say=quiet, progress=quiet)
    lora, prefix = found["rows"]
    assert "is none; leave it out" in prefix["refused"]
    assert len(lora["seeds"]) == 2
    assert lora["value"] == pytest.approx(sum(lora["seeds"]) / 2)
    assert lora["n"] == 48
    assert lora["trainable"] < run.manifest["trainable"]
    assert lora["adapter_mb"] > 0
    assert lora["peak_mb"] > 100
    assert "lora" in (tmp_path / "m" / "methods.svg").read_text()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("adapter_model.safetensors")}
    again = methods(recipe, tmp_path / "m", names=names, seeds=2, say=quiet, progress=quiet)
    assert again["rows"] == found["rows"]
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_tables_give_ids_to_rows_that_have_none(recipe: Recipe):
    rows = read_rows(recipe.data.train, recipe.task.record, recipe.data.columns)
    assert rows[0].id == "train:1"
