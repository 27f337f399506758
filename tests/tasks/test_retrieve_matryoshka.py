"""Vectors that do by their first numbers alone: the loss over them, its gradient, and what is learned by it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch import Tensor

import tiny
from burnish.errors import ModelError
from burnish.losses import contrastive
from burnish.losses.contrastive import Contrastive
from burnish.models.encode import Encoder
from burnish.models.pair_loss import pair_loss
from burnish.models.quiet import quiet
from burnish.prepare.pair_items import PairItem
from burnish.records import Pair
from burnish.tasks import Built, Task
from burnish.tasks.retrieve import Retrieve
from learn import check_micro_batches, learn, summed

LENGTHS: dict[str, Any] = {"query_tokens": 16, "passage_tokens": 24}
FIRST = (4, 16)
LOSSES: list[dict[str, Any]] = [
    {"kind": "contrastive"},
    {
        "kind": "contrastive",
        "directions": ["query_to_passage", "passage_to_query", "query_to_query", "passage_to_passage"],
        "false_negatives": 0.3,
    },
    {"kind": "triplet", "distance": "euclidean", "margin": 0.5},
    {"kind": "margin_mse"},
    {"kind": "distill"},
]


def named(loss: dict[str, Any]) -> str:
    return "-".join(map(str, list(loss.values())[:2]))


def task_with(loss: dict[str, Any], dimensions: Sequence[int] = FIRST, **settings: Any) -> Retrieve:
    task: Retrieve = Task.read({"kind": "retrieve", "loss": loss, "dimensions": dimensions, **LENGTHS, **settings})
    return task


def scored(count: int = 6) -> list[Pair]:
    """Return rows with one positive and one negative, and a teacher who knows better."""
    return [
        row.model_copy(update={"scores": (1.0, 0.1 * place)}) for place, row in enumerate(tiny.pairs(count, longest=5))
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    Encoder.load(str(tiny.tiny_bert(folder / "bert")), dtype=torch.float32).save(folder / "saved")
    return str(folder / "saved")


def cut(vectors: Tensor, count: int) -> Tensor:
    first = vectors[:, :count]
    return first / first.pow(2).sum(dim=1, keepdim=True).sqrt()


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_the_loss_is_the_mean_over_all_widths_and_so_is_its_gradient(loss: dict[str, Any], base: str) -> None:
    task = task_with(loss)
    built = task.build(base)
    batch = task.collate(task.encode(scored(), built).items)
    draw = torch.Generator().manual_seed(0)
    texts = (len(batch.queries), len(batch.passages))
    queries, passages = (cut(torch.randn(count, 32, generator=draw), 32).requires_grad_() for count in texts)
    ours = pair_loss(task.loss, queries, passages, batch, dimensions=FIRST)
    alone = [pair_loss(task.loss, cut(queries, count), cut(passages, count), batch) for count in FIRST]
    expected = (sum(alone) + pair_loss(task.loss, queries, passages, batch)) / 3
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    found, other = (torch.autograd.grad(value, (queries, passages)) for value in (ours, expected))
    for mine, theirs in zip(found, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    task = task_with({"kind": "margin_mse"}, (3,))
    draw = torch.Generator().manual_seed(1)
    queries, passages = (cut(torch.randn(count, 8, generator=draw), 8) for count in (2, 3))
    batch = task.collate(
        [
            PairItem("a", 4, (9,), ((1, 2),), ((3,),), scores=(1.0, 0.2)),
            PairItem("b", 3, (9,), ((3,),), ((4,),), scores=(0.7, 0.4)),
        ]
    )
    queries.requires_grad_()
    [gradient] = torch.autograd.grad(pair_loss(task.loss, queries, passages, batch, dimensions=(3,)), queries)
    step = 1e-2
    for row, column in ((0, 0), (0, 2), (1, 1), (1, 7)):
        values = []
        for way in (step, -step):
            moved = queries.detach().clone()
            moved[row, column] += way
            values.append(pair_loss(task.loss, moved, passages, batch, dimensions=(3,)).item())
        assert gradient[row, column].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-3)


def theirs(name: str, model: Any) -> Any:
    return {
        "in batch": lambda: losses.MultipleNegativesRankingLoss(model),
        "in parts": lambda: losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
        "margins": lambda: losses.MarginMSELoss(model),
    }[name]()


@pytest.mark.parametrize(
    ("name", "loss", "pass_tokens"),
    [
        ("in batch", {"kind": "contrastive"}, 8192),
        ("in parts", {"kind": "contrastive"}, 40),
        ("margins", {"kind": "margin_mse"}, 8192),
    ],
)
def test_it_is_the_loss_of_sentence_transformers_divided_by_the_widths(
    name: str, loss: dict[str, Any], pass_tokens: int, base: str
) -> None:
    rows = scored()
    task = task_with(loss, pass_tokens=pass_tokens)
    built = task.build(base)
    total, units, _ = summed(task, built.model, task.encode(rows, built).items, size=len(rows))
    with quiet():
        model = SentenceTransformer(base, device="cpu").eval()
    whole = losses.MatryoshkaLoss(model, theirs(name, model), [*FIRST, 32])
    texts = [[row.query for row in rows], [row.positives[0] for row in rows], [row.negatives[0] for row in rows]]
    margins = torch.tensor([row.scores[0] - row.scores[1] for row in rows])
    said = whole([model.preprocess(column) for column in texts], margins)
    said.backward()
    assert 3 * total / units == pytest.approx(said.item(), rel=1e-5)
    ours: Any = built.model
    mine = {key: weight.grad for key, weight in ours.transformer.named_parameters()}
    for key, weight in model[0].auto_model.named_parameters():
        assert weight.grad is not None, key
        torch.testing.assert_close(3 * mine[key] / units, weight.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_how_many_tokens_a_pass_holds_does_not_change_loss_or_gradient(loss: dict[str, Any], base: str) -> None:
    task = task_with(loss)
    built = task.build(base)
    items = task.encode(scored(), built).items
    found = [
        summed(task.model_copy(update={"pass_tokens": tokens}), built.model, items, size=6) for tokens in (40, 9999)
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-3, atol=1e-4 * found[1][2].abs().max().item())


@pytest.mark.parametrize("loss", LOSSES[2:], ids=named)
def test_micro_batches_do_not_change_the_loss_of_a_rows_own_passages(loss: dict[str, Any], base: str) -> None:
    task = task_with(loss)
    check_micro_batches(task, task.build(base), scored())


def test_tiles_do_not_change_the_loss(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_with(LOSSES[1])
    built = task.build(base)
    items = task.encode(scored(), built).items
    whole = summed(task, built.model, items, size=6)
    monkeypatch.setattr(contrastive, "TILE", (2, 3))
    tiled = summed(task, built.model, items, size=6)
    assert tiled[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(tiled[2], whole[2], rtol=1e-3, atol=1e-4 * whole[2].abs().max().item())


def test_texts_are_read_once_for_all_widths(base: str) -> None:
    calls: list[int] = []
    counts = []
    for dimensions in ((), FIRST):
        task = task_with({"kind": "contrastive"}, dimensions)
        built: Any = task.build(base)
        batch = task.collate(task.encode(scored(), built).items)
        calls.clear()
        built.model.transformer.register_forward_hook(lambda *_: calls.append(1))
        task.total_loss(built.model, batch).backward()
        counts.append(len(calls))
    assert counts[0] == counts[1] == 2


def test_the_whole_width_counts_once_where_it_is_named(base: str) -> None:
    built = task_with({"kind": "contrastive"}).build(base)
    found = []
    for dimensions in ((4,), (32, 4)):
        task = task_with({"kind": "contrastive"}, dimensions)
        found.append(task.total_loss(built.model, task.collate(task.encode(scored(), built).items)).item())
    assert found[0] == found[1]


def _first_two(model: Any, rows: Sequence[Pair]) -> float:
    """Return the share of queries whose passage is the nearest by two numbers alone."""
    passages = [text for row in rows for text in row.positives]
    queries, found = (
        model.encode([row.query for row in rows], max_tokens=16)[0],
        model.encode(passages, max_tokens=24)[0],
    )
    best = (cut(queries, 2) @ cut(found, 2).T).argmax(dim=1)
    return float((best == torch.arange(len(rows))).float().mean())


def test_what_is_trained_for_few_numbers_finds_by_them(base: str, tmp_path: Path) -> None:
    rows = tiny.pairs(8, longest=4)
    found = []
    for dimensions in ((), (2,)):
        task = task_with({"kind": "contrastive"}, dimensions)
        built = task.build(base)
        learn(task, built, rows, tmp_path / str(dimensions), steps=24, rate=5e-3)
        found.append(_first_two(built.model, rows))
    assert found[0] < 0.8
    assert found[1] == 1.0


def test_two_towers_and_a_learned_temperature_go_with_it(base: str) -> None:
    task = Retrieve(loss=Contrastive(learn="temperature"), dimensions=FIRST, two_towers=True, **LENGTHS)
    built = task.build(base)
    task.total_loss(built.model, task.collate(task.encode(scored(), built).items)).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in built.model.parameters())


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ([64, 64], "dimensions: 64 stands twice in 64, 64"),
        ([0], "greater than or equal to 1"),
        (["few"], "valid integer"),
    ],
)
def test_dimensions_that_make_no_sense_are_refused(dimensions: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Task.read({"kind": "retrieve", "dimensions": dimensions})


def test_dimensions_need_no_order() -> None:
    assert Retrieve(dimensions=(64, 16, 32)).dimensions == (64, 16, 32)


def test_more_dimensions_than_the_model_has_are_refused(base: str) -> None:
    said = r"dimensions 64, 33 are asked for, and vectors of this model have 32 numbers; name fewer, or leave"
    with pytest.raises(ModelError, match=said):
        task_with({"kind": "contrastive"}, (16, 64, 33)).build(base)
    found: Built = task_with({"kind": "contrastive"}, (32,)).build(base)
    assert found.fresh == ()
