import pytest
import torch

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
