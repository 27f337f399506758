"""Listwise cross-entropy against the formulas written out, and against sentence-transformers' losses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses
from torch import Tensor, nn

import tiny
from burnish.losses import Loss
from burnish.losses.listwise import Listwise
from burnish.models.quiet import quiet

POSITIVE = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
NEGATIVE = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)  # the second query has two passages


def scores(seed: int = 0) -> Tensor:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def each_by_hand(row: list[float], right: list[int], wrong: list[int], temperature: float = 1.0) -> float:
    power = [math.exp(score / temperature) for score in row]
    below = sum(power[place] for place in wrong)
    return sum(-math.log(power[place] / (power[place] + below)) for place in right) / len(right)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_each_positive_stands_against_its_own_negatives(temperature: float) -> None:
    found = scores()
    first, second = found.tolist()
    expected = each_by_hand(first, [0, 1], [2, 3], temperature) + each_by_hand(second, [0], [1], temperature)
    assert Listwise(temperature=temperature)(found, POSITIVE, NEGATIVE).item() == pytest.approx(expected, rel=1e-6)


def test_listnet_is_the_cross_entropy_of_two_softmaxes() -> None:
    found = scores()
    expected = 0.0
    for row, right, wide in zip(found.tolist(), POSITIVE.tolist(), (4, 2), strict=True):
        target = torch.tensor(right[:wide]).float().softmax(dim=0)
        expected -= (target * torch.tensor(row[:wide]).log_softmax(dim=0)).sum().item()
    assert Listwise(target="listnet")(found, POSITIVE, NEGATIVE).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("target", ["each", "listnet"])
def test_the_gradient_is_that_of_finite_differences(target: Any) -> None:
    found = scores().detach().double().requires_grad_()
    loss = Listwise(target=target)
    loss(found, POSITIVE, NEGATIVE).backward()
    assert found.grad is not None
    for row in range(2):
        for column in range(4):
            moved = [found.detach().clone() for _ in range(2)]
            for sign, other in zip((1, -1), moved, strict=True):
                other[row, column] += sign * 1e-2
            up, down = (loss(other, POSITIVE, NEGATIVE).item() for other in moved)
            assert found.grad[row, column].item() == pytest.approx((up - down) / 2e-2, abs=1e-3)


@pytest.mark.parametrize("target", ["each", "listnet"])
def test_the_sum_is_that_of_single_rows_and_no_constant_changes_it(target: Any) -> None:
    loss, found = Listwise(target=target), scores().detach()
    rows = [loss(found[row : row + 1], POSITIVE[row : row + 1], NEGATIVE[row : row + 1]) for row in range(2)]
    whole = loss(found, POSITIVE, NEGATIVE).item()
    assert whole == pytest.approx(sum(row.item() for row in rows), rel=1e-6)
    assert loss(found + torch.tensor([[3.0], [-5.0]]), POSITIVE, NEGATIVE).item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("target", ["each", "listnet"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extremes_are_finite_and_what_is_padded_counts_for_nothing(target: Any, size: float) -> None:
    found = torch.tensor([[size, -size, 0, size], [size, -size, torch.finfo().max, -1e9]]).requires_grad_()
    value = Listwise(target=target)(found, POSITIVE, NEGATIVE)
    value.backward()
    assert torch.isfinite(value)
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()
    assert found.grad[1, 2:].tolist() == [0, 0]


def test_half_precision_is_summed_in_fp32() -> None:
    assert Listwise()(scores().bfloat16(), POSITIVE, NEGATIVE).dtype == torch.float32


@pytest.mark.parametrize("settings", [{"target": "all"}, {"temperature": 0}])
def test_settings_that_make_no_loss_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        Loss.read({"kind": "listwise", **settings})


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    folder: Path = tiny.tiny_bert(tmp_path_factory.mktemp("theirs") / "bert")
    with quiet():
        return CrossEncoder(str(folder), num_labels=1, device="cpu", activation_fn=nn.Identity()).eval()


ROWS = [("red cat", ["one two", "dog", "is not"]), ("blue", ["four", "bird fish", "a"])]
RIGHT = torch.tensor([[1, 0, 0], [1, 0, 0]], dtype=torch.bool)


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def grid(model: Any) -> Tensor:
    pairs = [(query, text) for query, texts in ROWS for text in texts]
    found: Tensor = model(model.preprocess(pairs))["scores"]
    return found.view(2, 3)


def test_each_is_the_ranking_loss_of_sentence_transformers_without_other_queries_passages(theirs: CrossEncoder) -> None:
    reference = losses.MultipleNegativesRankingLoss(theirs, scale=2.0, activation_fn=None)
    total = torch.zeros(())
    for query, texts in ROWS:  # one query a batch has no other's passages
        total = total + reference([[query], *([text] for text in texts)], torch.zeros(0))
    expected = gradient(theirs, total)
    loss = Listwise(temperature=0.5)(grid(theirs), RIGHT, ~RIGHT)
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(gradient(theirs, loss), expected, rtol=1e-4, atol=1e-5)


def test_listnet_is_that_of_sentence_transformers(theirs: CrossEncoder) -> None:
    queries, texts = zip(*ROWS, strict=True)
    value = losses.ListNetLoss(theirs)([list(queries), list(texts)], [*RIGHT.float()])
    expected = gradient(theirs, value)
    loss = Listwise(target="listnet")(grid(theirs), RIGHT, ~RIGHT) / 2
    assert loss.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(gradient(theirs, loss), expected, rtol=1e-4, atol=1e-5)
