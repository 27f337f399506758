import math

import pytest
import torch
from torch import Tensor

from burnish.losses.clipped import Clipped, k3

LOSS = Clipped(low=0.2, high=0.3, kl=0.05)
# Ratios within the bounds, above and below them, each with an advantage of either sign and with none.
GAPS = [math.log(ratio) for ratio in (1.0, 1.1, 0.9, 1.7, 0.5, 1.31, 0.79)]
ADVANTAGES = (1.5, -0.7, 0.0)


def tokens() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logps, old, advantages and start of every kind of token, in fp64."""
    draw = torch.Generator().manual_seed(0)
    cases = [(gap, advantage) for gap in GAPS for advantage in ADVANTAGES]
    old = -3 * torch.rand(len(cases), generator=draw, dtype=torch.float64) - 0.1
    logps = old + torch.tensor([gap for gap, _ in cases], dtype=torch.float64)
    start = old + torch.randn(len(cases), generator=draw, dtype=torch.float64)
    return logps, old, torch.tensor([advantage for _, advantage in cases], dtype=torch.float64), start


def by_hand(logps: Tensor, old: Tensor, advantages: Tensor, start: Tensor | None) -> float:
    total = 0.0
    for place, (logp, before, advantage) in enumerate(
        zip(*(x.tolist() for x in (logps, old, advantages)), strict=True)
    ):
        ratio = math.exp(logp) / math.exp(before)
        bounded = min(max(ratio, 1 - LOSS.low), 1 + LOSS.high)
        total -= min(ratio * advantage, bounded * advantage)
        if start is not None:
            odds = math.exp(start[place].item()) / math.exp(logp)
            total += LOSS.kl * (odds - math.log(odds) - 1)
    return total


@pytest.mark.parametrize("pulled", [True, False])
def test_value_and_gradient_are_those_of_a_loop_written_by_hand(pulled: bool):
    logps, old, advantages, start = tokens()
    target = start if pulled else None
    logps.requires_grad_()
    loss = LOSS(logps, old, advantages, target)
    assert loss.item() == pytest.approx(by_hand(logps, old, advantages, target), rel=1e-12)
    loss.backward()
    for row in range(len(logps)):
        step = torch.zeros_like(old)
        step[row] = 1e-6
        ends = [by_hand(logps.detach() + sign * step, old, advantages, target) for sign in (1, -1)]
        assert logps.grad is not None
        assert logps.grad[row].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def test_the_gradient_has_its_closed_form_and_is_gone_where_clipped():
    logps, old, advantages, start = tokens()
    logps.requires_grad_()
    LOSS(logps, old, advantages, start).backward()
    ratio = (logps.detach() - old).exp()
    clipped = LOSS.is_clipped(logps.detach(), old, advantages)
    expected = torch.where(clipped, 0.0, -ratio * advantages) + LOSS.kl * (1 - (start - logps.detach()).exp())
    torch.testing.assert_close(logps.grad, expected, rtol=1e-10, atol=1e-12)
    assert clipped.tolist() == [
        (gap > math.log(1.3) and advantage > 0) or (gap < math.log(0.8) and advantage < 0)
        for gap in GAPS
        for advantage in ADVANTAGES
    ]


def test_the_first_update_is_the_plain_policy_gradient():
    logps, _, advantages, _ = tokens()
    logps.requires_grad_()
    Clipped(kl=0)(logps, logps.detach(), advantages, None).backward()
    torch.testing.assert_close(logps.grad, -advantages)


def test_k3_is_in_the_mean_the_divergence_of_what_draws():
    draw = torch.Generator().manual_seed(1)
    policy, start = torch.randn(2, 30, generator=draw, dtype=torch.float64).log_softmax(dim=1)
    expected = (policy.exp() * (policy - start)).sum()
    torch.testing.assert_close((policy.exp() * k3(policy, start)).sum(), expected)
    assert (k3(policy, start) >= 0).all()
    assert (k3(policy, policy) == 0).all()


def test_the_sum_is_that_of_its_tokens_in_any_order():
    logps, old, advantages, start = tokens()
    alone = sum(LOSS(*(part[[row]] for part in (logps, old, advantages, start))) for row in range(len(logps)))
    order = torch.randperm(len(logps), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(LOSS(logps, old, advantages, start), torch.as_tensor(alone))
    torch.testing.assert_close(
        LOSS(*(part[order] for part in (logps, old, advantages, start))), LOSS(logps, old, advantages, start)
    )


def test_extreme_tokens_are_finite():
    logps = torch.tensor([-80.0, 0.0, -1e-7], requires_grad=True)
    loss = LOSS(
        logps, torch.tensor([-80.0, 0.0, -1e-7]), torch.tensor([50.0, -50.0, 0.0]), torch.tensor([-1.0, -80, 0])
    )
    loss.backward()
    assert logps.grad is not None
    assert math.isfinite(loss.item()) and logps.grad.isfinite().all()
