"""The outer step of meta-learning: where the start of all tasks moves, between trainings on single tasks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def reptile(start: Sequence[Tensor], weights: Sequence[nn.Parameter], share: float) -> None:
    """Set the weights to start + share · (weights - start).

    Source: Nichol et al. 2018 (arXiv 1803.02999). weights: as a training on one task has left them.
    """
    for before, weight in zip(start, weights, strict=True):
        weight.copy_(before.lerp(weight, share))


@torch.no_grad()
def first_order(
    start: Sequence[Tensor], weights: Sequence[nn.Parameter], gradient: Sequence[Tensor], outer: torch.optim.Optimizer
) -> None:
    """Set the weights to the start, moved by the outer optimizer along a gradient that was taken elsewhere.

    Source: first-order MAML (Finn et al. 2017, arXiv 1703.03400): the gradient of a task's further rows, at what its
    first rows have made of the start. outer: over these weights.
    """
    for before, weight, slope in zip(start, weights, gradient, strict=True):
        weight.copy_(before)
        weight.grad = slope.clone()
    outer.step()
    outer.zero_grad(set_to_none=True)


class Noted(torch.optim.Optimizer):
    """An optimizer that keeps the gradient of its weights, in their order, and moves nothing."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        """Take the weights."""
        super().__init__([{"params": [*weights], "lr": 0.0, "full_rate": 0.0}], {})
        self.found: list[Tensor] = []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Keep the gradient."""
        weights = self.param_groups[0]["params"]
        self.found = [w.grad.clone() if w.grad is not None else torch.zeros_like(w) for w in weights]
