"""How likely tokens are, by hidden states and an output layer, without the vocabulary's width of logits for all."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

ROWS = 128  # of logits at a time; fewer read the output layer too often, more leave the processor's cache


def target_logps(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return (tokens,): ln of each target's probability by logits states·weightᵀ, in fp32; of states in fp64, in fp64.

    states: (tokens, width). weight: (vocabulary, width). targets: (tokens,) ids.

    Where the output layer stands still, all that is kept for the gradient is a row as wide as a hidden state: with p
    the probabilities, the gradient of ln p[target] in the state is weight[target] - p·weight, computed with p at hand.
    """
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        function: Any = _Logps
        found: Tensor = function.apply(states, weight, targets)
        return found
    parts = zip(torch.split(states, ROWS), torch.split(targets, ROWS), strict=True)
    return torch.cat([_scored(some, weight, wanted)[0] for some, wanted in parts])


def _scored(states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln of the targets' probabilities, and of the whole vocabulary's."""
    logps = torch.log_softmax(states @ weight.T, dim=-1, dtype=torch.promote_types(states.dtype, torch.float32))
    return logps.gather(1, targets[:, None])[:, 0], logps


class _Logps(Function):
    """The sum over nothing: a number a token; what is kept depends on whether the output layer trains."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        found, kept = [], []
        for some, wanted in zip(torch.split(states, ROWS), torch.split(targets, ROWS), strict=True):
            own, logps = _scored(some, weight, wanted)
            found.append(own)
            slope = logps.exp_().neg_()
            slope[torch.arange(len(wanted), device=slope.device), wanted] += 1  # of ln p[target] in the logits
            rounded = slope.to(states.dtype)
            kept.append(rounded if ctx.needs_input_grad[1] else rounded @ weight)
        ctx.save_for_backward(torch.cat(kept), states, weight)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        kept, states, weight = ctx.saved_tensors
        scaled = (kept * gradients[0][:, None]).to(states.dtype)
        if not ctx.needs_input_grad[1]:
            return scaled, None, None
        return scaled @ weight if ctx.needs_input_grad[0] else None, scaled.T @ states, None
