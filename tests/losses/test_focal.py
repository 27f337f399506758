import pytest
import torch
from torch import Tensor
from torch.nn import functional

from burnish.errors import RecipeError
from burnish.losses.focal import Focal

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0])


def logits_and_classes() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=draw) * 2, torch.randint(5, (7,), generator=draw)


def by_hand(logits: Tensor, classes: Tensor, *, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Return the loss as its docstring says it, one row at a time."""
    total = torch.zeros((), dtype=logits.dtype)
    for row, right in zip(logits, classes.tolist(), strict=True):
        p = row.softmax(dim=0)[right]
        total = total - (1.0 if weights is None else weights[right].item()) * (1 - p) ** gamma * p.log()
    return total


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_sum_is_that_of_a_loop_written_by_hand(gamma: float, weights: Tensor | None):
    logits, classes = logits_and_classes()
    loss = Focal(gamma=gamma, class_weights="none" if weights is None else "balanced")(logits, classes, weights=weights)
    assert loss.item() == pytest.approx(
        by_hand(logits.double(), classes, gamma=gamma, weights=weights).item(), rel=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_is_the_closed_form_and_the_slope(gamma: float):
    logits, classes = logits_and_classes()
    logits.requires_grad_()
    Focal(gamma=gamma, class_weights="balanced")(logits, classes, weights=WEIGHTS).backward()
    exact = logits.detach().double()
    p = exact.softmax(dim=1)
    right = p.gather(1, classes[:, None])
    factor = (1 - right) ** gamma - gamma * right * (1 - right) ** (gamma - 1) * right.log()
    expected = WEIGHTS.double()[classes][:, None] * factor * (p - torch.eye(5)[classes])
    torch.testing.assert_close(logits.grad, expected.float())
    for row in range(7):
        step = torch.zeros_like(exact)
        step[row, row % 5] = 1e-6
        rise = by_hand(exact + step, classes, gamma=gamma, weights=WEIGHTS)
        rise = rise - by_hand(exact - step, classes, gamma=gamma, weights=WEIGHTS)
        assert expected[row, row % 5].item() == pytest.approx((rise / 2e-6).item(), abs=1e-7)


def test_without_gamma_it_is_the_cross_entropy():
    logits, classes = logits_and_classes()
    expected = functional.cross_entropy(logits, classes, reduction="sum")
    assert Focal(gamma=0)(logits, classes).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_is_the_sum_over_its_rows_in_any_order():
    logits, classes = logits_and_classes()
    loss = Focal()
    single = sum(loss(logits[row : row + 1], classes[row : row + 1]).item() for row in range(7))
    assert loss(logits, classes).item() == pytest.approx(single, rel=1e-6)
    assert loss(logits.flip(0), classes.flip(0)).item() == pytest.approx(single, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("size", [1e4, 20.0, 0.0])
def test_loss_and_gradient_are_finite_at_the_extremes(gamma: float, right: int, size: float):
    logits = torch.tensor([[size, -size]], requires_grad=True)
    loss = Focal(gamma=gamma)(logits, torch.tensor([right]))
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_is_summed_in_fp32():
    logits, classes = logits_and_classes()
    assert Focal()(logits.bfloat16(), classes).dtype == torch.float32


def test_weights_that_a_task_does_not_give_are_an_error():
    with pytest.raises(RecipeError, match="loss focal: class_weights are for the classification of texts"):
        Focal(class_weights=(1.0,) * 5)(*logits_and_classes())
