"""Training on several sets by weight, and on BEIR folders."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import RecipeError
from burnish.prepare.beir import write_beir
from burnish.recipe import Recipe, read_recipe
from burnish.records import Chunk, Question, dump_jsonl
from burnish.run import Run, read_json
from burnish.steps.check import check
from burnish.steps.curve import curve
from burnish.steps.evaluate import evaluate
from burnish.steps.train import resume, train

SETS = [{"file": "big.jsonl", "weight": 3}, {"file": "small.jsonl", "weight": 1}]


def silent(*_: object) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, two sets of pairs, and a BEIR folder of twelve passages."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_bert(folder / "bert")
    (folder / "big.jsonl").write_text(dump_jsonl(tiny.pairs(24)))
    triplets = [
        {"anchor": p.query, "positive": p.positives[0], "negative": p.negatives[0]} for p in tiny.pairs(6, seed=1)
    ]
    (folder / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in triplets))
    rows = tiny.pairs(12, seed=2)
    chunks = [Chunk(id=row.id, text=row.positives[0]) for row in rows]
    asked = [Question(id=f"q{row.id}", question=row.query, gold=(row.id,)) for row in rows]
    graded = Question(id="graded", question="red green", gold=(chunks[0].id, chunks[1].id), grades=(1, 3))
    write_beir(folder / "beir", chunks, {"train": asked[:8], "dev": asked[8:10], "test": [*asked[10:], graded]})
    return folder


def recipe(folder: Path, data: dict[str, Any], **training: Any) -> Path:
    settings = {"epochs": 2, "batch": 4, "precision": "fp32", "evaluations": 1, **training}
    text = json.dumps({"task": "retrieve", "model": "bert", "method": "full", "data": data, "training": settings})
    path = folder / "recipe.yaml"
    path.write_text(text)  # JSON is YAML
    return path


def test_sets_are_trained_by_weight_and_what_each_has_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    said: list[str] = []
    run = train(
        read_recipe(recipe(folder, {"train": SETS}), Recipe), tmp_path / "run", say=said.append, progress=silent
    )
    assert said[:2] == [
        "big.jsonl: 24 items, 12 of 16 steps, each 2.00 times",
        "small.jsonl: 6 items, 4 of 16 steps, each 2.00 times",
    ]
    assert run.lines("log.jsonl")[-1]["step"] == 16
    assert read_json(run.folder / "manifest.json")["rows"] == 30


def test_a_run_on_several_sets_goes_on_as_if_it_had_never_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    data = {"train": {"sets": SETS, "step_of": "all_sets"}}
    settings = read_recipe(recipe(folder, data, checkpoint_every=1), Recipe)
    whole = train(settings, tmp_path / "whole", say=silent, progress=silent)

    def broken(what: str, done: int, of: int) -> None:
        if what.startswith("training") and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", say=silent, progress=broken)
    resumed = resume(tmp_path / "cut", say=silent, progress=silent)
    assert resumed.lines("log.jsonl") == whole.lines("log.jsonl")


def test_a_beir_folder_is_trained_on_and_scored_against_its_whole_corpus(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    path = recipe(folder, dict.fromkeys(("train", "dev", "test"), "beir"))
    run = train(read_recipe(path, Recipe), tmp_path / "run", say=silent, progress=silent)
    lines = Run.open(run.folder).lines("evaluation/test.predictions.jsonl")
    assert [line["id"] for line in lines] == ["qrow10", "qrow11", "graded"]
    found = evaluate(run.folder, data="beir", against=None, progress=silent)
    assert found["scores"] == read_json(run.folder / "evaluation" / "test.json")["scores"]


def test_check_tells_mixture_and_coverage(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    sets = {"sets": [{"file": "big.jsonl"}, {"file": "beir"}], "step_of": "all_sets"}
    lines = check(recipe(folder, {"train": sets}), [])
    assert lines[0] == "rows: 32 to train on, 0 to score while training, 0 to test on"
    assert lines[1].startswith("coverage: 24 of 48 passages (50%) have a training question")
    assert lines[2].startswith("coverage: 8 of 12 passages (67%) have a training question")
    assert "big.jsonl: 24 items, 3 of 4 rows in each step, each 2.00 times" in lines
    assert "beir: 8 items, 1 of 4 rows in each step, each 2.00 times" in lines


def fault(folder: Path, data: dict[str, Any], **training: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe(folder, data, **training), Recipe)
    return str(caught.value)


def test_a_mixture_that_cannot_be_is_told_where(folder: Path):
    message = fault(folder, {"train": [{"file": "a"}, {"file": "b", "weight": 2}]})
    assert "the set a has no weight and others have one; give each a weight, or none to go by rows" in message
    assert "greater than 0" in fault(folder, {"train": [{"file": "a", "weight": 0}, {"file": "b", "weight": 2}]})
    message = fault(folder, {"train": [{"file": "a", "wieght": 1}, {"file": "b"}]})
    assert "wieght: there is no such key. Did you mean 'weight'?" in message
    message = fault(folder, {"train": {"sets": [{"file": "a"}, {"file": "b"}], "step_of": "all_sets"}}, batch=1)
    assert "data.train.step_of all_sets needs a row of each of the 2 sets in every step" in message


def test_a_learning_curve_needs_one_set(folder: Path, tmp_path: Path):
    settings = read_recipe(recipe(folder, {"train": SETS, "test": "beir"}), Recipe)
    with pytest.raises(RecipeError, match="a learning curve takes shares of one set of rows"):
        curve(settings, tmp_path / "curve", shares=[50, 100], say=silent, progress=silent)
