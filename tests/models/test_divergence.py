import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from burnish.models.divergence import binary_divergence, divergence

Divergence = Callable[[Tensor, Tensor], Tensor]


def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    right, found = (3 * torch.randn(2, 5, 4)).unbind()
    return right, found


def test_the_divergence_of_classes_is_that_of_torch_and_of_the_formula():
    right, found = pair()
    expected = kl_divergence(Categorical(logits=right), Categorical(logits=found)).sum()
    assert divergence(right, found).item() == pytest.approx(expected.item(), rel=1e-5)
    by_hand = sum(
        math.exp(p) * (p - q)
        for ours, theirs in zip(right.log_softmax(1).tolist(), found.log_softmax(1).tolist(), strict=True)
        for p, q in zip(ours, theirs, strict=True)
    )
    assert divergence(right, found).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_divergence_of_yes_and_no_is_that_of_torch_averaged_over_the_labels():
    right, found = pair()
    expected = kl_divergence(Bernoulli(logits=right), Bernoulli(logits=found)).mean(dim=1).sum()
    assert binary_divergence(right, found).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("apart", [divergence, binary_divergence])
def test_nothing_diverges_from_itself_and_the_sum_is_that_of_the_rows(apart: Divergence):
    right, found = pair()
    assert apart(right, right).item() == pytest.approx(0.0, abs=1e-6)
    rows = sum(apart(p[None], q[None]).item() for p, q in zip(right, found, strict=True))
    assert apart(right, found).item() == pytest.approx(rows, rel=1e-5)


@pytest.mark.parametrize("apart", [divergence, binary_divergence])
def test_extreme_logits_give_finite_numbers_and_gradients(apart: Divergence):
    right = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    found = torch.tensor([[-1e4, 1e4, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    apart(right, found).backward()
    assert math.isfinite(apart(right, found).item())
    assert right.grad is not None
    assert found.grad is not None
    assert torch.isfinite(right.grad).all()
    assert torch.isfinite(found.grad).all()
