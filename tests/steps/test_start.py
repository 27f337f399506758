"""A training that begins with the weights of an adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.recipe import Recipe
from burnish.records import Completion, dump_jsonl
from burnish.run import Run
from burnish.steps.estimate import estimate
from burnish.steps.items import adapted
from burnish.steps.train import train
from burnish.tasks import Task

ROWS = [Completion(id=word, prompt=f"{word} ?", completion="yes") for word in ("cat", "dog", "red", "blue")]
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "ia3": {},
    "prompt": {"length": 6},
    "prefix": {"length": 4},
    "adapters": {"reduction": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny.tiny_llama(folder / "llama")
    (folder / "train.jsonl").write_text(dump_jsonl(ROWS), encoding="utf-8")
    return folder


def recipe_of(place: Path, method: str, **more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "task": {"kind": "generate", "metrics": ["perplexity"]},
            "model": str(place / "llama"),
            "method": {"kind": method, **METHODS.get(method, {}), "learning_rate": 0.01},
            "data": {"train": str(place / "train.jsonl")},
            "training": {"epochs": 3, "batch": 4, "evaluations": 0, "precision": "fp32", "schedule": "constant"},
            **more,
        }
    )


def saved(place: Path, method: str) -> Path:
    """Return the run of a method on the rows, trained once."""
    run = place / f"run-{method}"
    if not run.is_dir():
        train(recipe_of(place, method), run, say=lambda _: None, progress=lambda *_: None)
    return run


@pytest.mark.parametrize("method", METHODS)
def test_it_begins_where_the_adapter_ended(place: Path, method: str, tmp_path: Path) -> None:
    first = saved(place, method)
    recipe = recipe_of(place, method, start=str(first / "model"))
    built = recipe.task.build(recipe.model)
    model = adapted(recipe, built)
    again = recipe.task.build(str(first / "model"))
    items = recipe.task.encode(ROWS, built).items
    with torch.no_grad():
        ours, theirs = (
            recipe.task.total_loss(one.eval(), recipe.task.collate(items)).item() for one in (model, again.model)
        )
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert sum(weight.requires_grad for weight in model.parameters()) > 0
    second = train(recipe, tmp_path / "second", say=lambda _: None, progress=lambda *_: None)
    lines = [Run.open(run).lines("log.jsonl") for run in (first, second.folder)]
    assert lines[1][0]["loss"] == pytest.approx(ours / recipe.task.count(recipe.task.collate(items)), rel=1e-4)
    assert lines[1][-1]["loss"] < lines[0][-1]["loss"]
    assert estimate(recipe, ROWS)


def test_what_is_no_start_of_the_method_is_refused(place: Path) -> None:
    lora, ours = (str(saved(place, method) / "model") for method in ("lora", "adapters"))
    for method, start, words in (
        ("lora", str(place / "llama"), "this holds no adapter to start from; a whole model goes into `model`"),
        ("ia3", lora, "this is an adapter of LORA, and the method of this recipe makes IA3"),
        ("lora", ours, "makes an adapter of another method"),
        ("full", lora, "makes no adapter of its own"),
        ("adapters", lora, "this is no folder of"),
    ):
        recipe = recipe_of(place, method, start=start)
        with pytest.raises(ModelError, match=words):
            adapted(recipe, recipe.task.build(recipe.model))
    other = recipe_of(place, "lora", start=lora).model_copy(update={"method": Method.read({"kind": "lora", "rank": 2})})
    task: Task = other.task
    with pytest.raises(ModelError, match=r"does not fit: .* is \(4, \d+\) in the file and \(2, \d+\) in the model"):
        adapted(other, task.build(other.model))
