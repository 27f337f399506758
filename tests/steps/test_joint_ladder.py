"""A rung of both halves trained on together: from the best of each, and kept only where dev answers get better."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel

import tiny
from burnish.errors import RecipeError
from burnish.evaluation.measure import Measured
from burnish.ladder_recipe import Ladder
from burnish.models.load import load_writer
from burnish.prepare.beir import write_beir
from burnish.recipe import checked
from burnish.records import Chunk, Question
from burnish.steps.climb import Climb
from burnish.steps.ladder import ladder

WORDS = tiny.WORDS[-20:]
CHUNKS = [Chunk(id=f"c{n}", title=word, text=f"{word} cat {WORDS[n - 1]}") for n, word in enumerate(WORDS)]
QUESTIONS = [
    Question(id=f"q{n}", question=f"question {word} cat", answers=(word,), gold=(f"c{n}",))
    for n, word in enumerate(WORDS)
]
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "ladders" / "joint.yaml"


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Return the recipe of this repository at a tiny size, with a rung more."""
    write_beir(tmp_path / "source", CHUNKS, {"all": QUESTIONS})
    stand_ins = {
        "embedded/minilm": str(tiny.tiny_bert(tmp_path / "bert")),
        "embedded/smollm2": str(tiny.tiny_llama(tmp_path / "llama")),
        "documents": str(tmp_path / "source"),
    }
    text = RECIPE.read_text(encoding="utf-8")
    for name, place in stand_ins.items():
        text = text.replace(f"{name}}}", f"{place}}}").replace(f"{name}\n", f"{place}\n")
    found: dict[str, Any] = yaml.safe_load(text)
    form = {"query_tokens": 16, "passage_tokens": 16}
    found["corpus"] |= {"dev": 0.2, "test": 0.3}
    found["answer_questions"] = 4
    found["prompt"] = {"passages": 2, "passage_words": 8}
    found["retriever"] |= {"task": {"kind": "retrieve", **form}, "method": {"kind": "full", "learning_rate": 1e-3}}
    found["joint"]["task"] |= {"top_k": 3, **form}
    for part in ("retriever", "generator", "joint"):
        found[part]["training"] |= {"batch": 8, "evaluations": 0, "precision": "fp32"}
    for rung in found["rungs"]:
        if "generator" in rung:
            rung["generator"]["max_new_tokens"] = 3
    found["rungs"].append({"name": "its retriever", "retriever": {"kind": "dense", "model": "trained/joint-retriever"}})
    return found


@pytest.mark.parametrize("better", [True, False])
def test_the_halves_are_kept_where_dev_questions_are_answered_better(
    better: bool, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    dev = iter([0.5, 0.75 if better else 0.5])
    monkeypatch.setattr(Climb, "_on_dev", lambda *_: next(dev))
    folder = tmp_path / "run"
    found = ladder(checked(settings, Ladder, where="recipe"), folder, say=quiet, progress=quiet)
    run = folder / "trainings" / "joint"
    rows = [json.loads(line) for line in (folder / "data" / "joint.train.jsonl").read_text().splitlines()]
    assert rows[0].keys() >= {"question", "answers"}
    assert len((run / "log.jsonl").read_text().splitlines()) >= 1
    generator, _ = load_writer(str(run / "model" / "generator"), dtype=torch.float32)
    assert isinstance(generator, PeftModel)
    pipeline = json.loads((folder / "pipeline.json").read_text())
    halves = [pipeline["retriever"]["model"], pipeline["generator"]["model"]]
    ours = [str(run / "model" / half) for half in ("retriever", "generator")]
    apart = [str(folder / "trainings" / half / "model") for half in ("retriever", "generator")]
    assert halves == (ours if better else apart)
    [note] = found["notes"]
    assert note.startswith("Joint training, on 4 dev questions: 0.500 before, ")
    assert note.endswith("; kept." if better else "; not kept: the halves stay as they were.")
    assert note in (folder / "report.html").read_text(encoding="utf-8")
    rungs = {rung["name"]: rung for rung in found["rungs"]}
    assert rungs["joint"]["trainable"] > 0
    if not better:
        assert rungs["its retriever"]["scores"] == rungs["retriever"]["scores"]
    again = ladder(checked(settings, Ladder, where="recipe"), folder, say=quiet, progress=quiet)
    assert again["notes"] == found["notes"]


def test_dev_questions_are_answered_by_the_rung_with_both_pairs_of_halves(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    seen: list[tuple[str, str, int]] = []
    answers = Climb._answers

    def told(climb: Climb, rung: Any, questions: list[Question]) -> Measured:
        found = answers(climb, rung, questions)
        seen.append((rung.name, Path(rung.generator.model).parent.name, len(questions)))
        return found

    monkeypatch.setattr(Climb, "_answers", told)
    ladder(checked(settings, Ladder, where="recipe"), tmp_path / "run", say=quiet, progress=quiet)
    kept = json.loads((tmp_path / "run" / "trainings" / "joint" / "kept.json").read_text())
    assert [one for one in seen if one[0] == "joint"][:2] == [("joint", "generator", 4), ("joint", "model", 4)]
    assert kept["kept"] == (kept["after"] > kept["before"])


def test_what_cannot_be_is_refused(settings: Mapping[str, Any]) -> None:
    without = {key: value for key, value in settings.items() if key != "joint"}
    with pytest.raises(RecipeError, match=r"rung 'joint' uses trained/joint, and the recipe has no `joint:`"):
        checked(without, Ladder, where="recipe")
    with pytest.raises(RecipeError, match="the task is rag, not generate"):
        checked({**settings, "joint": {**settings["joint"], "task": "generate"}}, Ladder, where="recipe")
    alone = {key: value for key, value in settings.items() if key != "retriever"}
    with pytest.raises(RecipeError, match="joint uses trained/retriever"):
        checked({**alone, "rungs": settings["rungs"][3:]}, Ladder, where="recipe")
