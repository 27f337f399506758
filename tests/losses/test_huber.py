import pytest
import torch
from torch import Tensor

from burnish.losses.huber import Huber


def predictions_and_targets() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(9, generator=draw) * 3, torch.randn(9, generator=draw)


def by_hand(predictions: Tensor, targets: Tensor, *, delta: float) -> float:
    total = 0.0
    for prediction, target in zip(predictions.tolist(), targets.tolist(), strict=True):
        error = abs(prediction - target)
        total += error**2 / 2 if error <= delta else delta * (error - delta / 2)
    return total


@pytest.mark.parametrize("delta", [0.3, 1.0, 100.0])
def test_the_sum_is_that_of_a_loop_written_by_hand(delta: float):
    predictions, targets = predictions_and_targets()
    expected = by_hand(predictions.double(), targets, delta=delta)
    assert Huber(delta=delta)(predictions, targets).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("delta", [0.3, 1.0, 100.0])
def test_the_gradient_is_the_error_held_at_delta_and_the_slope(delta: float):
    predictions, targets = predictions_and_targets()
    predictions.requires_grad_()
    Huber(delta=delta)(predictions, targets).backward()
    exact = predictions.detach().double()
    expected = (exact - targets).clamp(-delta, delta)
    torch.testing.assert_close(predictions.grad, expected.float())
    for row in range(9):
        step = torch.zeros_like(exact)
        step[row] = 1e-6
        rise = by_hand(exact + step, targets, delta=delta) - by_hand(exact - step, targets, delta=delta)
        assert expected[row].item() == pytest.approx(rise / 2e-6, abs=1e-6)


def test_the_loss_is_the_sum_over_its_rows_in_any_order():
    predictions, targets = predictions_and_targets()
    loss = Huber()
    single = sum(loss(predictions[row : row + 1], targets[row : row + 1]).item() for row in range(9))
    assert loss(predictions, targets).item() == pytest.approx(single, rel=1e-6)
    assert loss(predictions.flip(0), targets.flip(0)).item() == pytest.approx(single, rel=1e-6)


@pytest.mark.parametrize("size", [1e12, 0.0])
def test_loss_and_gradient_are_finite_at_the_extremes(size: float):
    predictions = torch.tensor([size, -size], requires_grad=True)
    loss = Huber()(predictions, torch.zeros(2))
    loss.backward()
    assert loss.isfinite()
    assert predictions.grad is not None
    assert predictions.grad.isfinite().all()


def test_half_precision_is_summed_in_fp32():
    predictions, targets = predictions_and_targets()
    assert Huber()(predictions.bfloat16(), targets).dtype == torch.float32
