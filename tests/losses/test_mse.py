import pytest
import torch
from torch import Tensor

from burnish.losses.mse import Mse


def predictions_and_targets() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(9, generator=draw) * 3, torch.randn(9, generator=draw)


def by_hand(predictions: Tensor, targets: Tensor) -> float:
    return sum((p - t) ** 2 for p, t in zip(predictions.tolist(), targets.tolist(), strict=True))


def test_the_sum_is_that_of_a_loop_written_by_hand():
    predictions, targets = predictions_and_targets()
    assert Mse()(predictions, targets).item() == pytest.approx(by_hand(predictions.double(), targets), rel=1e-6)


def test_the_gradient_is_twice_the_error_and_the_slope():
    predictions, targets = predictions_and_targets()
    predictions.requires_grad_()
    Mse()(predictions, targets).backward()
    exact = predictions.detach().double()
    torch.testing.assert_close(predictions.grad, (2 * (exact - targets)).float())
    for row in range(9):
        step = torch.zeros_like(exact)
        step[row] = 1e-6
        rise = by_hand(exact + step, targets) - by_hand(exact - step, targets)
        assert 2 * (exact - targets)[row].item() == pytest.approx(rise / 2e-6, abs=1e-6)


def test_the_loss_is_the_sum_over_its_rows_in_any_order():
    predictions, targets = predictions_and_targets()
    loss = Mse()
    single = sum(loss(predictions[row : row + 1], targets[row : row + 1]).item() for row in range(9))
    assert loss(predictions, targets).item() == pytest.approx(single, rel=1e-6)
    assert loss(predictions.flip(0), targets.flip(0)).item() == pytest.approx(single, rel=1e-6)


@pytest.mark.parametrize("size", [1e12, 0.0])
def test_loss_and_gradient_are_finite_at_the_extremes(size: float):
    predictions = torch.tensor([size, -size], requires_grad=True)
    loss = Mse()(predictions, torch.zeros(2))
    loss.backward()
    assert loss.isfinite()
    assert predictions.grad is not None
    assert predictions.grad.isfinite().all()


def test_half_precision_is_summed_in_fp32():
    predictions, targets = predictions_and_targets()
    assert Mse()(predictions.bfloat16(), targets).dtype == torch.float32
