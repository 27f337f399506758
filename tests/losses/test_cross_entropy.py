import pytest
import torch
from pydantic import ValidationError

from burnish.errors import RecipeError
from burnish.losses.cross_entropy import CrossEntropy


def logits_and_classes() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=draw), torch.randint(5, (7,), generator=draw)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_target_is_smoothed_towards_all_classes_alike(smoothing: float):
    logits, classes = logits_and_classes()
    target = (1 - smoothing) * torch.eye(5, dtype=torch.double)[classes] + smoothing / 5
    expected = -(target * logits.double().log_softmax(dim=1)).sum()
    loss = CrossEntropy(label_smoothing=smoothing)(logits, classes)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_softmax_minus_target(smoothing: float):
    logits, classes = logits_and_classes()
    logits.requires_grad_()
    CrossEntropy(label_smoothing=smoothing)(logits, classes).backward()
    target = (1 - smoothing) * torch.eye(5)[classes] + smoothing / 5
    torch.testing.assert_close(logits.grad, logits.detach().softmax(dim=1) - target)


def test_the_loss_is_the_sum_over_its_rows_in_any_order():
    logits, classes = logits_and_classes()
    loss = CrossEntropy(label_smoothing=0.1)
    single = sum(loss(logits[row : row + 1], classes[row : row + 1]).item() for row in range(7))
    assert loss(logits, classes).item() == pytest.approx(single, rel=1e-6)
    assert loss(logits.flip(0), classes.flip(0)).item() == pytest.approx(single, rel=1e-6)


def test_the_loss_is_finite_where_the_model_is_sure_and_wrong():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = CrossEntropy()(logits, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_is_summed_in_fp32():
    logits, classes = logits_and_classes()
    assert CrossEntropy()(logits.bfloat16(), classes).dtype == torch.float32


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0])
PRIOR = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])


def by_hand(logits: torch.Tensor, classes: torch.Tensor, *, smoothing: float, tau: float) -> torch.Tensor:
    """Return the weighted, adjusted, smoothed loss as its docstring says it, in double precision."""
    target = (1 - smoothing) * torch.eye(5, dtype=torch.double)[classes] + smoothing / 5
    adjusted = logits.double() + tau * PRIOR.double().log()
    return -(WEIGHTS.double()[classes][:, None] * target * adjusted.log_softmax(dim=1)).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_weights_multiply_rows_and_the_prior_is_added_to_the_logits(smoothing: float, tau: float):
    logits, classes = logits_and_classes()
    loss = CrossEntropy(label_smoothing=smoothing, class_weights="balanced", logit_adjustment=tau)
    found = loss(logits.requires_grad_(), classes, weights=WEIGHTS, prior=PRIOR)
    found.backward()
    exact = logits.detach().double().requires_grad_()
    expected = by_hand(exact, classes, smoothing=smoothing, tau=tau)
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert logits.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logits.grad, exact.grad.float())
    target = (1 - smoothing) * torch.eye(5)[classes] + smoothing / 5
    slope = (logits.detach() + tau * PRIOR.log()).softmax(dim=1) - target
    torch.testing.assert_close(logits.grad, WEIGHTS[classes][:, None] * slope)
    assert all(slope_of(exact.detach(), classes, row, row % 5, smoothing, tau) < 1e-6 for row in range(7))


def slope_of(logits: torch.Tensor, classes: torch.Tensor, row: int, column: int, smoothing: float, tau: float) -> float:
    """Return how far the gradient is from a difference quotient."""
    exact = logits.clone().requires_grad_()
    by_hand(exact, classes, smoothing=smoothing, tau=tau).backward()
    assert exact.grad is not None
    step = torch.zeros_like(logits)
    step[row, column] = 1e-6
    rise = by_hand(logits + step, classes, smoothing=smoothing, tau=tau)
    rise -= by_hand(logits - step, classes, smoothing=smoothing, tau=tau)
    return abs((rise / 2e-6 - exact.grad[row, column]).item())


def test_the_weighted_loss_is_the_sum_over_its_rows():
    logits, classes = logits_and_classes()
    loss = CrossEntropy(class_weights=(1.0, 2.0, 3.0, 4.0, 5.0), logit_adjustment=1.0)
    rows = [loss(logits[r : r + 1], classes[r : r + 1], weights=WEIGHTS, prior=PRIOR).item() for r in range(7)]
    assert loss(logits, classes, weights=WEIGHTS, prior=PRIOR).item() == pytest.approx(sum(rows), rel=1e-6)


def test_a_weighted_adjusted_loss_is_finite_where_the_model_is_sure_and_wrong():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = CrossEntropy(class_weights="balanced", logit_adjustment=1.0)
    total = loss(logits, torch.tensor([1]), weights=torch.tensor([1.0, 50.0]), prior=torch.tensor([1 - 1e-7, 1e-7]))
    total.backward()
    assert total.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_adjusted_loss_of_logits_that_are_the_log_prior_is_that_of_even_logits():
    classes = torch.tensor([0, 4])
    loss = CrossEntropy(logit_adjustment=1.0)(-PRIOR.log().expand(2, 5), classes, prior=PRIOR)
    assert loss.item() == pytest.approx(2 * torch.tensor(5.0).log().item(), rel=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(class_weights="balanced"), CrossEntropy(logit_adjustment=1.0)])
def test_settings_that_a_task_does_not_serve_are_an_error(loss: CrossEntropy):
    with pytest.raises(RecipeError, match=r"class_weights and logit_adjustment are for the classification of texts"):
        loss(*logits_and_classes())


def test_a_weight_of_zero_or_less_is_refused():
    with pytest.raises(ValidationError, match="greater than 0"):
        CrossEntropy(class_weights=(1.0, 0.0))
