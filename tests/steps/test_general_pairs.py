"""Pairs of another domain as a probe of forgetting, and what a run says where it is not better."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import tiny
from burnish.errors import DataError
from burnish.evaluation.run_report import write_run_report
from burnish.prepare.beir import write_beir
from burnish.recipe import Recipe, read_recipe
from burnish.records import Chunk, Pair, Question, dump_jsonl
from burnish.run import Run, read_json
from burnish.steps.check import check
from burnish.steps.evaluate import evaluate
from burnish.steps.train import train
from burnish.terminal import evaluation_table

# What the base finds by its words, and a training on other words and their opposites takes from it.
GENERAL = [
    Pair(
        id=f"g{number}",
        query=f"{word} w{number}",
        positives=(f"{word} w{number} cat",),
        negatives=(f"{other} w{number + 1} dog",),
    )
    for number, (word, other) in enumerate([("red", "blue"), ("green", "fish"), ("one", "six"), ("left", "right")] * 4)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny.tiny_bert(folder / "bert")
    (folder / "train.jsonl").write_text(dump_jsonl(tiny.pairs(24)))
    (folder / "test.jsonl").write_text(dump_jsonl(tiny.pairs(12, seed=1)))
    (folder / "general.jsonl").write_text(dump_jsonl(GENERAL))
    chunks = [Chunk(id=row.id, text=row.positives[0]) for row in GENERAL]
    asked = [Question(id=row.id, question=row.query, gold=(row.id,)) for row in GENERAL]
    write_beir(folder / "beir", chunks, {"test": asked[:6]})
    return folder


def recipe(folder: Path, *, rate: float = 1e-3, general: str = "general.jsonl", task: Any = "retrieve") -> Path:
    data = {side: str(folder / f"{side}.jsonl") for side in ("train", "test")}
    settings = {
        "task": task,
        "model": str(folder / "bert"),
        "method": {"kind": "full", "learning_rate": rate},
        "data": {**data, "general": str(folder / general)},
        "training": {"epochs": 2, "batch": 8, "precision": "fp32", "evaluations": 0, "dropout": 0.0},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def run(path: Path, to: Path) -> tuple[Run, list[str]]:
    said: list[str] = []
    return train(read_recipe(path, Recipe), to, say=said.append, progress=lambda *_: None), said


def shown(found: dict[str, Any]) -> str:
    page = StringIO()
    Console(file=page, width=400).print(evaluation_table(found))
    return page.getvalue()


@pytest.mark.parametrize("task", ["retrieve", {"kind": "late", "width": None}])
def test_what_a_retriever_forgot_of_another_domain_is_scored_paired(folder: Path, tmp_path: Path, task: Any) -> None:
    done, said = run(recipe(folder, rate=0.1, task=task), tmp_path / "run")
    found = read_json(done.folder / "evaluation" / "general.json")
    assert found["measure"] == "pairs"
    assert found["n"] == len(GENERAL)
    gain = found["gain"]["nDCG@10"]
    assert gain["difference"] == pytest.approx(
        found["scores"]["nDCG@10"]["value"] - found["before"]["nDCG@10"]["value"]
    )
    assert found["outcome"] == "worse"
    assert said[-1] == found["sentence"]
    assert said[-1].startswith(f"nDCG@10 on general pairs: {found['before']['nDCG@10']['value']:.3f} → ")
    assert said[-1].endswith("worse; data.rehearsal, training.l2_start or training.interpolate below 1 keep more")
    assert len(done.lines("evaluation/general.predictions.jsonl")) == len(GENERAL)
    page = write_run_report(done.folder).read_text()
    assert "What it still can" in page
    assert "nDCG@10 on general pairs" in page


def test_weights_between_start_and_end_forget_less(folder: Path, tmp_path: Path) -> None:
    path = recipe(folder, rate=0.1)
    whole, _ = run(path, tmp_path / "whole")
    settings = read_recipe(path, Recipe, ["training.interpolate=0.02"])
    near = train(settings, tmp_path / "near", say=lambda _: None, progress=lambda *_: None)
    left, kept = (
        read_json(one.folder / "evaluation" / "general.json")["gain"]["nDCG@10"]["difference"] for one in (whole, near)
    )
    assert kept > left


def test_a_folder_in_beir_form_is_searched_whole(folder: Path, tmp_path: Path) -> None:
    done, said = run(recipe(folder, rate=1e-9, general="beir"), tmp_path / "run")
    found = read_json(done.folder / "evaluation" / "general.json")
    assert (found["n"], found["outcome"]) == (6, "not better")
    assert said[-1].endswith("no change beyond chance")
    assert "6 general pairs" in check(recipe(folder, general="beir"), [])[0]


def test_a_new_head_has_nothing_to_forget(folder: Path, tmp_path: Path) -> None:
    task = {"kind": "rerank", "max_tokens": 48}
    done, said = run(recipe(folder, task=task), tmp_path / "run")
    assert "before" not in read_json(done.folder / "evaluation" / "general.json")
    assert said[-1].endswith("; the base has a part that is new, and nothing of it could be forgotten")
    again = read_recipe(recipe(folder, task=task), Recipe, [f"model={done.folder / 'model'}"])
    trained = train(again, tmp_path / "again", say=said.append, progress=lambda *_: None)
    assert "gain" in read_json(trained.folder / "evaluation" / "general.json")


def test_a_learned_temperature_is_no_part_that_ranks(folder: Path, tmp_path: Path) -> None:
    task = {"kind": "retrieve", "loss": {"kind": "contrastive", "learn": "temperature"}}
    done, _ = run(recipe(folder, task=task), tmp_path / "run")
    assert "gain" in read_json(done.folder / "evaluation" / "general.json")
    assert "gain" in read_json(done.folder / "evaluation" / "test.json")


def test_pairs_that_can_tell_nothing_are_refused_before_the_first_step(folder: Path, tmp_path: Path) -> None:
    (folder / "one.jsonl").write_text(dump_jsonl(GENERAL[:1]))
    with pytest.raises(DataError, match=r"data\.general: 1 pairs in 1 groups; an interval needs at least 2"):
        run(recipe(folder, general="one.jsonl"), tmp_path / "one")
    (folder / "bare.jsonl").write_text(dump_jsonl([row.model_copy(update={"negatives": ()}) for row in GENERAL]))
    with pytest.raises(DataError, match="no pair has `negatives`, and a re-ranker ranks"):
        run(recipe(folder, general="bare.jsonl", task={"kind": "rerank", "max_tokens": 48}), tmp_path / "bare")
    assert not (tmp_path / "bare" / "log.jsonl").exists()


def test_a_run_that_is_not_better_says_so_and_what_may_help(folder: Path, tmp_path: Path) -> None:
    done, _ = run(recipe(folder, rate=1e-9), tmp_path / "run")
    found = read_json(done.folder / "evaluation" / "test.json")
    assert found["outcome"] == "not better"
    text = shown(found)
    assert f"Not better than {folder / 'bert'} by more than chance explains: nDCG@10 " in text
    assert "the interval holds zero." in text
    assert "What may help:\n" in text
    for command in ("burnish curve", "burnish mine", "burnish suggest", "kind: hybrid"):
        assert command in text
    assert "burnish tune" not in text  # it needs dev rows
    assert read_recipe(done.folder / "recipe.yaml", Recipe)  # which the commands name
    assert "not better by more than chance explains." in write_run_report(done.folder).read_text()
    other = evaluate(done.folder, data=None, against=str(folder / "bert"), progress=lambda *_: None)
    assert other["verdict"].startswith("Not better than ")
    alone = shown(evaluate(done.folder, data=None, against=None, progress=lambda *_: None))
    assert "nDCG@10" in alone
    assert "etter than" not in alone


def test_a_run_that_is_better_has_no_need_of_advice(folder: Path, tmp_path: Path) -> None:
    path = recipe(folder, rate=3e-3)
    changes = [f"data.test={folder / 'train.jsonl'}", "training.epochs=20"]
    done = train(read_recipe(path, Recipe, changes), tmp_path / "run", say=print, progress=lambda *_: None)
    found = read_json(done.folder / "evaluation" / "test.json")
    assert found["outcome"] == "better"
    assert "advice" not in found
    assert "Better than " in shown(found)
