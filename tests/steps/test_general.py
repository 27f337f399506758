"""A run with general texts and rows to rehearse: what it checks, says and writes."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import DataError, RecipeError
from burnish.evaluation.forgetting import sentence
from burnish.recipe import Recipe, read_recipe
from burnish.records import Document, Labelled, dump_jsonl
from burnish.run import Run, read_json
from burnish.steps.check import check
from burnish.steps.train import train

COLOURS = ("red", "green", "blue")


def silent(*_: object) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models, rows, rows to rehearse and general texts."""
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_llama(folder / "llama")
    tiny.tiny_bert(folder / "bert")
    (folder / "train.jsonl").write_text(dump_jsonl(tiny.completions(24)))
    (folder / "rehearsed.jsonl").write_text(dump_jsonl(tiny.completions(7, seed=5)))
    texts = [Document(id=str(n), text=row.completion) for n, row in enumerate(tiny.completions(9, seed=1))]
    (folder / "general.csv").write_text("source,text\n" + "".join(f"x,{row.text}\n" for row in texts))
    labelled = [Labelled(id=f"{c} {n}", text=f"{c} w{n}", label=c) for c in COLOURS[:2] for n in range(6)]
    (folder / "labelled.jsonl").write_text(dump_jsonl(labelled))
    old = [Labelled(id=f"old {n}", text=f"blue w{n}", label="blue") for n in range(4)]
    (folder / "old.jsonl").write_text(dump_jsonl(old))
    return folder


def recipe(folder: Path, **changes: Any) -> Path:
    data = {"train": str(folder / "train.jsonl"), "general": str(folder / "general.csv"), **changes.pop("data", {})}
    training = {"epochs": 2, "batch": 8, "precision": "fp32", "evaluations": 0, **changes.pop("training", {})}
    plain = {"task": "generate", "model": str(folder / "llama"), "method": "lora", "data": data, "training": training}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({**plain, **changes}))  # JSON is YAML
    return path


def test_a_run_with_general_texts_says_and_writes_what_was_forgotten(folder: Path, tmp_path: Path):
    beside = {"file": str(folder / "rehearsed.jsonl"), "share": 0.25}
    said: list[str] = []
    path = recipe(folder, data={"rehearsal": beside})
    run = train(read_recipe(path, Recipe), tmp_path / "run", say=said.append, progress=silent)
    found = read_json(run.folder / "evaluation" / "general.json")
    assert (found["data"], found["n"], found["reads"]) == (str(folder / "general.csv"), 9, "causal")
    assert found["before"]["value"] != found["after"]["value"]
    assert said[-1] == sentence(found)
    assert "rehearsed: 7 items, 25% of each step's" in said
    lines = Run.open(run.folder).lines("evaluation/general.predictions.jsonl")
    assert [line["id"] for line in lines] == [f"general:{n}" for n in range(1, 10)]
    assert run.lines("log.jsonl")[0]["of"] == 8  # 24 rows, 6 of 8 a step


def test_check_counts_what_is_rehearsed_and_read(folder: Path):
    lines = check(recipe(folder, data={"rehearsal": {"file": str(folder / "rehearsed.jsonl"), "share": 0.25}}), [])
    assert lines[0] == ("rows: 24 to train on, 0 to score while training, 0 to test on, 7 to rehearse, 9 general texts")
    assert any(line.startswith("steps: 8 of 8 rows") for line in lines)


def test_check_times_a_loss_that_looks_back(folder: Path):
    assert any(line.startswith("time:") for line in check(recipe(folder, task={"kind": "generate", "kl_start": 1}), []))


def test_labels_of_rehearsed_rows_are_learned_too(folder: Path, tmp_path: Path):
    data = {"train": str(folder / "labelled.jsonl"), "rehearsal": {"file": str(folder / "old.jsonl"), "share": 0.3}}
    task = {"kind": "classify", "loss": {"kind": "cross_entropy", "class_weights": "balanced"}}
    said: list[str] = []
    path = recipe(folder, task=task, model=str(folder / "bert"), method="head", data=data)
    run = train(read_recipe(path, Recipe), tmp_path / "run", say=said.append, progress=silent)
    assert list(read_json(run.folder / "model" / "config.json")["id2label"].values()) == sorted(COLOURS)
    assert "weights: blue 1.33, green 0.889, red 0.889" in said
    found = read_json(run.folder / "evaluation" / "general.json")
    assert found["scores"]["cosine"]["value"] == pytest.approx(1.0, abs=1e-3)  # the head alone has moved


def test_a_recipe_without_general_texts_says_nothing_of_them(folder: Path, tmp_path: Path):
    said: list[str] = []
    run = train(
        read_recipe(recipe(folder, data={"general": None}), Recipe), tmp_path / "run", say=said.append, progress=silent
    )
    assert not (run.folder / "evaluation").exists()
    assert not any("general" in line for line in said)


def test_what_cannot_be_scored_or_rehearsed_is_told_before_the_first_step(folder: Path, tmp_path: Path):
    (folder / "one.csv").write_text("text\nred\n")
    one = read_recipe(recipe(folder, data={"general": str(folder / "one.csv")}), Recipe)
    with pytest.raises(DataError, match="an interval needs at least 2"):
        train(one, tmp_path / "one", say=silent, progress=silent)
    assert not (tmp_path / "one" / "log.jsonl").exists()
    (folder / "long.jsonl").write_text(dump_jsonl(tiny.completions(2, longest=40)))
    beside = {"rehearsal": {"file": str(folder / "long.jsonl")}, "general": None}
    long = read_recipe(recipe(folder, task={"kind": "generate", "max_tokens": 8}, data=beside), Recipe)
    with pytest.raises(DataError, match=r"no row is left to (train on|rehearse)"):
        train(long, tmp_path / "long", say=silent, progress=silent)
    with pytest.raises(DataError, match=r"nowhere\.csv: there is no such file"):
        train(
            read_recipe(recipe(folder, data={"general": "nowhere.csv"}), Recipe),
            tmp_path / "nowhere",
            say=silent,
            progress=silent,
        )
    assert not (tmp_path / "nowhere").exists()


def test_a_batch_of_one_has_no_room_to_rehearse(folder: Path):
    path = recipe(folder, data={"rehearsal": {"file": "x.jsonl"}}, training={"batch": 1})
    with pytest.raises(RecipeError, match=r"data\.rehearsal needs a row of each kind in every step"):
        read_recipe(path, Recipe)
