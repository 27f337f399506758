"""The losses of a retriever, each trained with through the task, and what each asks of the rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import tiny
from burnish.errors import DataError
from burnish.losses import Loss
from burnish.methods.lora import Lora
from burnish.records import Pair
from burnish.tasks import Built, Task
from burnish.tasks.retrieve import Retrieve
from learn import check_micro_batches, learn

LOSSES: list[dict[str, Any]] = [
    {"kind": "contrastive"},
    {"kind": "contrastive", "directions": ["query_to_passage", "passage_to_query"], "softmax": "apart"},
    {
        "kind": "contrastive",
        "directions": ["query_to_passage", "passage_to_query", "query_to_query", "passage_to_passage"],
        "false_negatives": 0.1,
    },
    {"kind": "triplet"},
    {"kind": "triplet", "distance": "euclidean", "margin": 0.3},
    {"kind": "margin_mse"},
    {"kind": "distill", "teacher_temperature": 0.5},
    {"kind": "distill", "labels": 1.0},
]
OWN = [loss for loss in LOSSES if loss["kind"] != "contrastive" and "labels" not in loss]


def named(loss: dict[str, Any]) -> str:
    return "-".join(map(str, list(loss.values())[:2]))


def task_with(loss: dict[str, Any]) -> Retrieve:
    task: Retrieve = Task.read({"kind": "retrieve", "loss": loss, "query_tokens": 16, "passage_tokens": 24})
    return task


def scored(count: int = 8) -> list[Pair]:
    """Return rows with one positive, two negatives and a teacher who knows better."""
    first, more = tiny.pairs(count, longest=4), tiny.pairs(count, seed=1, longest=5)
    return [
        row.model_copy(update={"negatives": (*row.negatives, *other.negatives), "scores": (1.0, 0.1 * place, -0.2)})
        for place, (row, other) in enumerate(zip(first, more, strict=True))
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_each_loss_learns_a_few_rows(loss: dict[str, Any], base: str, tmp_path: Path) -> None:
    task = task_with(loss)
    losses = learn(task, task.build(base), scored(), tmp_path, steps=24, rate=5e-3)
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("loss", OWN, ids=named)
def test_a_loss_over_a_rows_own_passages_does_not_depend_on_micro_batches(loss: dict[str, Any], base: str) -> None:
    task = task_with(loss)
    assert task.divisible
    check_micro_batches(task, task.build(base), scored(6))


def test_a_loss_over_the_batch_cannot_be_cut() -> None:
    assert not Retrieve().divisible
    assert not task_with({"kind": "distill", "labels": 0.5}).divisible


def test_labels_beside_a_teacher_are_the_contrastive_loss_by_their_weight(base: str) -> None:
    found = []
    for loss in (
        {"kind": "distill", "temperature": 0.1, "labels": 0.5},
        {"kind": "distill", "temperature": 0.1},
        {"kind": "contrastive", "temperature": 0.1},
    ):
        task = task_with(loss)
        built = task.build(base)
        total = task.total_loss(built.model, task.collate(task.encode(scored(), built).items))
        total.backward()
        gradient = torch.cat([w.grad.flatten() for w in built.model.parameters() if w.grad is not None])
        found.append((total.detach(), gradient))
    for both, taught, labels in zip(*found, strict=True):
        torch.testing.assert_close(both, taught + 0.5 * 0.1**2 * labels, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_lora_gets_the_same_gradient_in_one_pass_and_in_many(loss: dict[str, Any], base: str) -> None:
    task = task_with(loss)
    built = task.build(base)
    model = Lora(rank=4).apply(built.model)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    batch = task.collate(task.encode(scored(), built).items)
    found = []
    for tokens in (10_000, 40):
        model.zero_grad()
        cut = task.model_copy(update={"pass_tokens": tokens})
        cut.total_loss(model, batch).backward()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        found.append(torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6 * found[0].abs().max().item())


def test_a_teachers_scores_stay_with_their_passages(base: str) -> None:
    row = Pair(
        id="a",
        query="red",
        positives=("one two", "one  two", "four"),
        negatives=("four", "three", "five"),
        scores=(0.9, 0.8, 0.7, 0.6, 0.3, 0.2),
    )
    task = task_with({"kind": "distill"})
    built = task.build(base)
    items = task.encode([row], built).items
    assert items[0].scores == (0.9, 0.7, 0.3, 0.2)
    assert task.collate(items).teacher_rc.tolist() == [pytest.approx([0.9, 0.7, 0.3, 0.2])]
    assert task.audit(items, built)[-1] == "teacher's scores: 0.9, 0.7, 0.3, 0.2"


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        (
            "triplet",
            {},
            "row 'a': loss triplet compares right passages with wrong ones, and this row has no `negatives`",
        ),
        ("margin_mse", {"scores": (1.0,)}, "row 'a': loss margin_mse compares right passages with wrong ones"),
        (
            "margin_mse",
            {"negatives": ("three",)},
            "row 'a': loss margin_mse learns from a teacher's scores, and this row has none; add `scores`, one for "
            "each positive and then each negative, or use contrastive",
        ),
        ("distill", {"negatives": ("three",)}, "row 'a': loss distill learns from a teacher's scores"),
        (
            "distill",
            {"scores": (1.0,)},
            "row 'a': loss distill compares a query's passages, and this row has one alone; add `negatives`",
        ),
        ("triplet", {"negatives": ("one  two",)}, "this row has no `negatives` beside its positives; add some"),
    ],
)
def test_rows_that_lack_what_the_loss_needs_are_named(kind: str, row: dict[str, Any], said: str, base: str) -> None:
    task = task_with({"kind": kind})
    built = task.build(base)
    bad = Pair.model_validate({"id": "a", "query": "red", "positives": ("one two",), **row})
    items = task.encode([*scored(2), bad], built).items
    with pytest.raises(DataError) as caught:
        task.audit(items, built)
    assert str(caught.value).startswith("row 'a'")
    assert said in str(caught.value)


def test_a_loss_for_another_task_is_refused() -> None:
    with pytest.raises(ValidationError, match="contrastive, triplet, margin_mse or distill, not cross_entropy"):
        Task.read({"kind": "retrieve", "loss": "cross_entropy"})


@pytest.mark.parametrize("kind", ["triplet", "margin_mse", "distill"])
def test_each_loss_is_chosen_by_the_name_of_its_file(kind: str) -> None:
    assert kind in Loss.names()
    assert Retrieve(loss=Loss.read(kind)).loss.kind == kind


def test_built_models_have_no_new_parts_without_a_learned_temperature(base: str) -> None:
    found: Built = task_with({"kind": "triplet"}).build(base)
    assert found.fresh == ()
