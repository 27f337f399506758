import math

import pytest
import torch
from torch import Tensor

from burnish.errors import RecipeError
from burnish.losses.binary import Binary

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 7.0])


def logits_and_targets() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, generator=draw) * 2, (torch.rand(6, 4, generator=draw) < 0.4).float()


def by_hand(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> float:
    """Return the loss as its docstring says it, one label at a time."""
    factors = [1.0] * 4 if weights is None else weights.tolist()
    total = 0.0
    for row, yes in zip(logits.tolist(), targets.tolist(), strict=True):
        for z, y, w in zip(row, yes, factors, strict=True):
            p = 1 / (1 + math.exp(-z))
            total -= (w * y * math.log(p) + (1 - y) * math.log(1 - p)) / 4
    return total


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_sum_is_that_of_a_loop_written_by_hand(weights: Tensor | None):
    logits, targets = logits_and_targets()
    loss = Binary(positive_weights="none" if weights is None else "balanced")(logits, targets, weights=weights)
    assert loss.item() == pytest.approx(by_hand(logits.double(), targets, weights), rel=1e-6)


def test_the_gradient_is_the_closed_form_and_the_slope():
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    Binary(positive_weights=tuple(WEIGHTS.tolist()))(logits, targets, weights=WEIGHTS).backward()
    exact = logits.detach().double()
    p = exact.sigmoid()
    expected = ((1 - targets) * p - WEIGHTS * targets * (1 - p)) / 4
    torch.testing.assert_close(logits.grad, expected.float())
    for row in range(6):
        step = torch.zeros_like(exact)
        step[row, row % 4] = 1e-6
        rise = by_hand(exact + step, targets, WEIGHTS) - by_hand(exact - step, targets, WEIGHTS)
        assert expected[row, row % 4].item() == pytest.approx(rise / 2e-6, abs=1e-7)


def test_the_loss_is_the_sum_over_its_rows_in_any_order():
    logits, targets = logits_and_targets()
    loss = Binary()
    single = sum(loss(logits[row : row + 1], targets[row : row + 1]).item() for row in range(6))
    assert loss(logits, targets).item() == pytest.approx(single, rel=1e-6)
    assert loss(logits.flip(0), targets.flip(0)).item() == pytest.approx(single, rel=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_loss_and_gradient_are_finite_at_the_extremes(size: float):
    logits = torch.tensor([[size, -size]], requires_grad=True)
    loss = Binary(positive_weights="balanced")(logits, torch.tensor([[1.0, 0.0]]), weights=torch.tensor([1e3, 1e-3]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_is_summed_in_fp32():
    logits, targets = logits_and_targets()
    assert Binary()(logits.bfloat16(), targets).dtype == torch.float32


def test_weights_that_a_task_does_not_give_are_an_error():
    with pytest.raises(RecipeError, match="loss binary: positive_weights are for the classification of texts"):
        Binary(positive_weights="balanced")(*logits_and_targets())
