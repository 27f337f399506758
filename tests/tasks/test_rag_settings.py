"""What joint training can be told beside its loss: right passages, sources, turns, passages one at a time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from burnish.errors import DataError, ModelError
from burnish.losses.adist import Adist
from burnish.methods.full import Full
from burnish.models.answer_rows import answer_rows, passage_spans
from burnish.models.attention_mass import attention_masses
from burnish.recipe import Recipe
from burnish.records import Question, dump_jsonl
from burnish.steps.train import train
from burnish.tasks import Built, Task
from burnish.tasks.rag import Rag
from rag_data import CHUNKS, write_halves
from rag_data import ROWS as ALL

ROWS = ALL[:4]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with both halves, passages and a cache of its own."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return write_halves(tmp_path)


def begun(place: Path, rows: list[Question] = ROWS, **settings: Any) -> tuple[Any, Built, Any, Any]:
    """Return the task, what is built, the model, and what makes a step's questions of all rows."""
    named = {"passages": str(place / "passages.jsonl"), "retriever": str(place / "bert"), "top_k": 3}
    more = {"query_tokens": 16, "passage_tokens": 16, "prompt": {"passages": 2}}
    task: Any = Task.read({"kind": "rag", **named, **more, **settings})
    built = task.build(str(place / "llama"))
    model = task.adapted_by(Full()).apply(built.model)
    items = task.encode(rows, built).items
    task.prepare(model, items, cache=place / "cache", progress=lambda *_: None)
    sampler = task.sampler(model, built, items, seed=0)
    return task, built, model, lambda step=0: list(sampler(step, range(len(rows))))


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def test_right_passages_hold_the_retriever_by_infonce_among_those_found_and_themselves(place: Path) -> None:
    rows = [*ROWS[:3], ROWS[3].model_copy(update={"gold": ()})]
    task, _, model, step = begun(place, rows, trains="retriever", gold_weight=0.5)
    found = step()
    assert any(one.beside for one in found)  # else nothing would tell found from not found
    batch = task.collate(found)
    with_gold = task.total_loss(model, batch)
    with_gold.backward()
    ours = gradients(model)
    plain, *_ = begun(place, rows, trains="retriever")
    without = plain.total_loss(model, plain.collate([replace(one, beside=()) for one in found]))
    without.backward()
    theirs = gradients(model)
    passages, expected = {chunk.id: chunk.text for chunk in CHUNKS}, torch.zeros(())
    for one in found[:3]:
        shown = [*one.ids, *(key for key in one.item.row.gold if key not in one.ids)]
        tower = model.retriever.passages
        ids, _ = tower.tokenize([tower.format.passage("", passages[key]) for key in shown], max_tokens=16)
        scores = tower.embed(list(ids)).detach() @ model.retriever.queries.embed([one.item.query])[0] / 0.05
        expected = expected - scores.log_softmax(0)[shown.index(one.item.row.gold[0])]
    expected.backward()
    named = gradients(model)
    assert with_gold.item() == pytest.approx(without.item() + 0.5 * expected.item(), rel=1e-5)
    assert batch.told["gold loss"] == (pytest.approx(expected.item(), rel=1e-5), 3)
    size = max(gradient.abs().max().item() for gradient in ours.values())
    for name, gradient in ours.items():
        assert (gradient - theirs[name] - 0.5 * named[name]).abs().max().item() <= 1e-5 * size, name


def test_right_passages_that_nobody_names_are_an_error(place: Path) -> None:
    rows = [row.model_copy(update={"gold": ("p99",)}) for row in ROWS]
    with pytest.raises(DataError, match=r"gold_weight is 0.5, and no question names a right passage of"):
        begun(place, rows, gold_weight=0.5)


def test_a_questions_own_source_is_skipped_and_others_take_its_place(place: Path) -> None:
    _, _, _, step = begun(place)
    plain = step()
    source = plain[0].ids[0]
    text = next(chunk.text for chunk in CHUNKS if chunk.id == source)
    rows = [
        ROWS[0].model_copy(update={"id": source}),  # by its id
        ROWS[1].model_copy(update={"question": text.rpartition(" ")[0], "answers": (text.rpartition(" ")[2],)}),
        *ROWS[2:],
    ]
    _, _, _, kept = begun(place, rows)
    _, _, _, skips = begun(place, rows, skip_source=True)
    before, after = kept(), skips()
    assert source in before[0].ids
    assert source not in after[0].ids
    assert source not in after[1].ids
    for one, other in zip(before, after, strict=True):
        expected = [key for key in one.ids if key in other.ids]
        assert [*other.ids][: len(expected)] == expected
        assert len(other.ids) == 3


def test_where_nothing_but_the_source_is_there_it_is_said(place: Path) -> None:
    rows = [row.model_copy(update={"question": "the", "answers": ("is",)}) for row in ROWS]
    with pytest.raises(DataError, match="question 'q1': nothing but its own source is found"):
        begun(place, rows, skip_source=True)[3]()


def test_passages_one_at_a_time_are_the_mean_of_their_losses(place: Path) -> None:
    task, built, model, step = begun(place, trains="generator", generator_reads="each")
    found = step()
    total = task.total_loss(model, task.collate(found))
    chunks, expected = {chunk.id: chunk for chunk in CHUNKS}, 0.0
    for one in found:
        shown = [[chunks[key]] for key in one.ids[:2]]
        for prompt, answer in answer_rows(task.prompt, one.item.row, shown, built.tokenizer, apart=False):
            logits = model.generator(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            expected += functional.cross_entropy(logits, torch.tensor(answer)).item() / 2
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_attention_teaches_the_retriever(place: Path) -> None:
    task, built, model, step = begun(place, loss="adist", generator_weight=0.0)
    found = step()
    total = task.total_loss(model, task.collate(found))
    total.backward()
    ours = gradients(model)
    assert {name.split(".")[0] for name in ours} == {"retriever"}
    chunks, expected = {chunk.id: chunk for chunk in CHUNKS}, torch.zeros(())
    tower = model.retriever.passages
    for one in found:
        shown = [chunks[key] for key in one.ids]
        rows = answer_rows(task.prompt, one.item.row, [shown], built.tokenizer, apart=False)
        spans = passage_spans(task.prompt, one.item.row, shown, built.tokenizer, apart=False)
        [mass] = attention_masses(model.generator.eval(), rows, [spans])
        ids, _ = tower.tokenize([tower.format.passage("", chunk.text) for chunk in shown], max_tokens=16)
        scores = tower.embed(list(ids)).detach() @ model.retriever.queries.embed([one.item.query])[0]
        expected = expected + Adist()(scores[None], torch.ones(1, 3, dtype=torch.bool), mass[None])
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    size = max(gradient.abs().max().item() for gradient in ours.values())
    for name, gradient in gradients(model).items():
        assert (ours[name] - gradient).abs().max().item() <= 1e-5 * size, name


@pytest.mark.parametrize(
    ("settings", "turns"),
    [
        ({"schedule": "alternating", "turn_steps": 2}, "ggrrgg"),
        ({"schedule": "generator_first"}, "gggrrr"),
        ({"schedule": "together"}, "bbbbbb"),
    ],
)
def test_whose_turn_it_is(place: Path, settings: dict[str, Any], turns: str) -> None:
    task, *_ = begun(place, **settings)
    assert isinstance(task, Rag)
    said = ""
    for step in range(6):
        moving = {half: task.moves(f"{half}.x.weight", step, 6) for half in ("retriever", "generator")}
        said += "b" if all(moving.values()) else "r" if moving["retriever"] else "g"
    assert said == turns


@pytest.mark.parametrize("loss", ["pdist", "rag_token"])
def test_in_a_halfs_turn_the_other_is_not_read_for_it(place: Path, loss: str) -> None:
    task, _, model, step = begun(place, loss=loss, schedule="alternating")
    for half, others in (("retriever", "generator"), ("generator", "retriever")):
        getattr(model, others).requires_grad_(False)
        getattr(model, half).requires_grad_(True)
        found = step()
        assert all(bool(one.scored) == (half == "retriever" or loss == "rag_token") for one in found)
        task.total_loss(model, task.collate(found)).backward()
        assert {name.split(".")[0] for name in gradients(model)} == {half}


def test_a_half_that_nothing_teaches_is_an_error(place: Path) -> None:
    rows = [ROWS[0].model_copy(update={"id": "p1"}), ROWS[1].model_copy(update={"id": "p2"})]
    (place / "train.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    (place / "two.jsonl").write_text(dump_jsonl(CHUNKS[:2]), encoding="utf-8")
    task = {"kind": "rag", "passages": str(place / "two.jsonl"), "retriever": str(place / "bert"), "top_k": 2}
    recipe = Recipe.model_validate(
        {
            "task": {**task, "query_tokens": 16, "passage_tokens": 16, "skip_source": True},  # which leaves one passage
            "model": str(place / "llama"),
            "method": "full",
            "data": {"train": str(place / "train.jsonl")},
            "training": {"epochs": 2, "evaluations": 0},
        }
    )
    with pytest.raises(ModelError, match="the retriever was to be trained, and no step of 2 had a gradient for it"):
        train(recipe, place / "run", say=lambda _: None, progress=lambda *_: None)
    assert not (place / "run" / "model").exists()
