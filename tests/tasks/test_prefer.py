"""Preferences: the reference is computed once, a prompt is read once, and margins are those of its rewards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import tiny
from burnish.errors import DataError
from burnish.losses import Loss, Prefers
from burnish.methods.lora import Lora
from burnish.models.completions import collate_branches
from burnish.models.reference import answer_logps, reference_logps
from burnish.preference_rows import Preference, Thumb
from burnish.recipe import Recipe
from burnish.steps.train import train
from burnish.tasks import Built
from burnish.tasks.prefer import Prefer
from learn import check_micro_batches, learn, summed

PAIRED = [name for name in Loss.names() if issubclass(Loss.named(name), Prefers)]
WORDS = ("cat", "dog", "red fish", "a bird and the cat", "green", "one two three", "left", "what is it")
ROWS = [
    Preference(id=text, prompt=f"the {text} question", chosen=f"yes {text}", rejected="no no" if place % 2 else "no")
    for place, text in enumerate(WORDS)
]
THUMBS = [
    Thumb(
        id=text,
        prompt=f"the {text} question",
        completion=f"yes {text}" if place % 2 else f"no {text}",
        label="good" if place % 2 else "bad",
    )
    for place, text in enumerate(WORDS)
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


def prepared(task: Prefer, built: Built, model: nn.Module, rows: Sequence[Any], cache: Path) -> list[str]:
    return task.prepare(model, task.encode(rows, built).items, cache=cache, progress=lambda *_: None)


def margins(task: Prefer, model: nn.Module, built: Built, rows: Sequence[Any]) -> list[float]:
    return task.predictions(model.eval(), built, rows, reads="margins", progress=lambda *_: None)


@pytest.mark.parametrize("kind", PAIRED)
def test_every_loss_learns_which_answer_is_preferred(kind: str, llama: Path, tmp_path: Path):
    task = Prefer.model_validate({"loss": kind})
    built = task.build(str(llama))
    losses = learn(task, built, ROWS, tmp_path, steps=12, rate=3e-3)
    assert losses[-1] < losses[0]
    assert min(margins(task, built.model, built, ROWS)) > 0


def test_thumbs_are_learned(llama: Path, tmp_path: Path):
    task = Prefer.model_validate({"loss": {"kind": "kto", "beta": 0.5}})
    built = task.build(str(llama))
    losses = learn(task, built, THUMBS, tmp_path, steps=16, rate=3e-3)
    assert losses[0] == pytest.approx(0.5, abs=1e-4)
    assert losses[-1] < 0.4
    found = margins(task, built.model, built, THUMBS)
    assert sum(margin > 0 for margin in found) >= 6


@pytest.mark.parametrize("kind", PAIRED)
def test_micro_batches_do_not_change_the_step(kind: str, llama: Path, tmp_path: Path):
    task = Prefer.model_validate({"loss": kind})
    built = task.build(str(llama))
    prepared(task, built, built.model, ROWS, tmp_path)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in built.model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    check_micro_batches(task, built, ROWS)


def test_a_prompt_that_is_read_once_gives_the_gradient_of_one_read_twice(llama: Path, tmp_path: Path):
    task = Prefer()
    built = task.build(str(llama))
    items = task.encode(ROWS, built).items
    prepared(task, built, built.model, ROWS, tmp_path)
    with torch.no_grad():
        for weight in built.model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)
    loss, _, shared = summed(task, built.model, items, size=len(items))

    built.model.zero_grad()
    apart = collate_branches([(item.prompt, (answer,)) for item in items for answer in item.answers])
    logps: Tensor = answer_logps(built.model, apart)
    batch = task.collate(items)
    before = reference_logps(built.model, batch.keys)
    gaps = 0.1 * ((logps - before)[::2] - (logps - before)[1::2])
    whole = -torch.nn.functional.logsigmoid(gaps).sum()
    whole.backward()
    unshared = torch.cat([weight.grad.flatten() for weight in built.model.parameters() if weight.grad is not None])
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    assert (shared - unshared).abs().max() <= 1e-5 * unshared.abs().max()


def test_what_answers_were_before_is_computed_once_whatever_the_seed_of_an_adapter(llama: Path, tmp_path: Path):
    task, said = Prefer(), []
    for seed, rows in ((0, ROWS[:5]), (1, ROWS)):
        torch.manual_seed(seed)
        built = task.build(str(llama))
        model = Lora(rank=2).apply(built.model)
        said += prepared(task, built, model, rows, tmp_path)
        assert margins(task, model, built, rows) == pytest.approx([0.0] * len(rows), abs=1e-5)
    assert [line.rsplit("of which", 1)[1] for line in said] == [" 5 are read for this run", " 3 are read for this run"]


def test_the_first_loss_is_that_of_no_difference(llama: Path, tmp_path: Path):
    task = Prefer()
    built = task.build(str(llama))
    prepared(task, built, built.model, ROWS, tmp_path)
    batch = task.collate(task.encode(ROWS, built).items)
    assert task.total_loss(built.model, batch).item() == pytest.approx(8 * 0.693147, abs=1e-3)
    told = task.facts([], [batch])
    assert told["margin"][0] == pytest.approx(0, abs=1e-3)
    assert told["accuracy"][1] == 8


def test_a_loss_without_reference_reads_nothing_before(llama: Path, tmp_path: Path):
    task = Prefer.model_validate({"loss": "simpo"})
    built = task.build(str(llama))
    assert prepared(task, built, built.model, ROWS, tmp_path) == []
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_saved_model_is_measured_against_what_it_was_trained_from(method: str, llama: Path, tmp_path: Path):
    task = Prefer()
    built = task.build(str(llama))
    model = Lora(rank=2).apply(built.model) if method == "lora" else built.model
    prepared(task, built, model, ROWS, tmp_path / "cache")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.02)
    ours = margins(task, model, built, ROWS)
    task.save(model, built, tmp_path / "model")
    again = task.build(str(tmp_path / "model"))
    assert margins(task, again.model, again, ROWS) == pytest.approx(ours, abs=1e-4)
    assert max(map(abs, ours)) > 0.01


def test_a_model_that_was_trained_from_nothing_has_no_margin(llama: Path):
    task = Prefer()
    built = task.build(str(llama))
    assert margins(task, built.model, built, ROWS) == [0.0] * 8
    assert task.dev_score(built.model, built, ROWS) == 0.5


def test_long_rows_are_left_out_and_repeated_ones_counted(llama: Path):
    long = Preference(id="long", prompt="what " * 30, chosen="yes", rejected="no")
    again = ROWS[0].model_copy(update={"id": "again"})
    found = Prefer(max_tokens=20).encode([*ROWS, long, again], Prefer().build(str(llama)))
    assert len(found.items) == 9
    assert found.notes == {"rows of more than 20 tokens left out": 1, "rows that stand twice": 1}


def test_the_audit_shows_the_end_of_the_prompt_and_both_answers(llama: Path):
    built = Prefer().build(str(llama))
    lines = Prefer().audit(Prefer().encode(ROWS, built).items, built)
    assert "question" in lines[0]
    assert lines[1] == "  chosen: 'yes cat <|end|>'"
    assert lines[2] == "  rejected: 'no <|end|>'"


def test_the_answer_behind_a_thumbs_prompt_belongs_to_another_prompt(llama: Path):
    task = Prefer.model_validate({"loss": "kto"})
    same = [row.model_copy(update={"prompt": "the question"}) for row in THUMBS[:3]]
    items = task.encode([*same, *THUMBS[3:]], task.build(str(llama))).items
    own = {(item.prompt, item.answers[0]) for item in items}
    assert not own & {(item.prompt, item.answers[1]) for item in items}
    with pytest.raises(DataError, match="no answer to another prompt is there"):
        task.encode(same, task.build(str(llama)))


def test_a_loss_of_something_else_is_refused_by_name():
    with pytest.raises(ValidationError, match="the loss of preferences is one of dpo, dpo_norm, ipo, kto, orpo, simpo"):
        Prefer.model_validate({"loss": "mse"})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_begins_with_no_difference_in_every_number_format(precision: str, llama: Path, tmp_path: Path):
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(f"{row.model_dump_json()}\n" for row in ROWS))
    said = {
        "task": {"kind": "prefer", "loss": {"kind": "dpo", "beta": 10.0}},
        "model": str(llama),
        "method": "lora",
        "data": {"train": str(table), "dev": str(table)},
        "training": {"epochs": 1, "batch": 8, "precision": precision, "evaluations": 0},
    }
    run = train(Recipe.model_validate(said), tmp_path / "run", say=print, progress=lambda *_: None)
    [line] = run.lines("log.jsonl")
    assert line["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert line["margin"] == pytest.approx(0, abs=1e-5)


def test_the_margin_may_be_measured_before_and_after_training(llama: Path, tmp_path: Path):
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(f"{row.model_dump_json()}\n" for row in ROWS))
    said = {
        "task": {"kind": "prefer", "metrics": ["preference_accuracy", "reward_margin"]},
        "model": str(llama),
        "method": {"kind": "full", "learning_rate": 3e-3},
        "data": {"train": str(table), "test": str(table)},
        "training": {"epochs": 3, "batch": 8, "precision": "fp32"},
    }
    run = train(Recipe.model_validate(said), tmp_path / "run", say=print, progress=lambda *_: None)
    found = json.loads((run.folder / "evaluation" / "test.json").read_text())
    assert found["before"]["reward margin"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 8}
    assert found["scores"]["reward margin"]["low"] > 0
