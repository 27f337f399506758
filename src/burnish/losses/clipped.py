"""Clipped policy gradient: samples better than their group become likelier, within bounds of what drew them."""

import torch
from pydantic import Field
from torch import Tensor

from burnish.losses import Loss


class Clipped(Loss):
    """The policy gradient of a token with a clipped ratio, and a pull to what the model was before.

    Σ over tokens of -min(ρ·A, clip(ρ, 1 - low, 1 + high)·A) + kl·k3, with ρ = exp(logp - old) and, for Δ = start -
    logp, k3 = exp(Δ) - Δ - 1, which is never negative and whose mean over the policy's own samples is KL(policy‖start).

    Sources: the clip, Schulman et al. 2017 (PPO, arXiv 1707.06347); a wider upper bound, Yu et al. 2025 (DAPO, arXiv
    2503.14476); k3 in the loss, Shao et al. 2024 (GRPO, arXiv 2402.03300). Gradient: -ρ·A where ρ is not clipped, else
    0, and kl·(1 - exp(Δ)). In the first update on samples ρ is 1 and nothing is clipped.
    Needs: prompts, from which the model draws texts. Relates to: `preference` losses, which read texts that are there.
    Example: logps, old, advantages, start (5,) → a scalar.
    """

    low: float = Field(default=0.2, gt=0, lt=1)
    high: float = Field(default=0.28, gt=0, allow_inf_nan=False)
    kl: float = Field(default=0.04, ge=0, allow_inf_nan=False)  # 0 saves the pass of the model as it was

    def __call__(self, logps: Tensor, old: Tensor, advantages: Tensor, start: Tensor | None) -> Tensor:
        """Return the sum over tokens.

        logps: (tokens,), ln of each token's probability. old: the same by the model that drew it, without gradient.
        advantages: (tokens,), of the text that the token is in. start: by the model before it was trained; None for a
        loss without the pull.
        """
        ratio = torch.exp(logps - old)
        bounded = ratio.clamp(1 - self.low, 1 + self.high)
        total = -torch.minimum(ratio * advantages, bounded * advantages).sum()
        return total if start is None else total + self.kl * k3(logps, start).sum()

    def is_clipped(self, logps: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return (tokens,) booleans: where the bound took the gradient away."""
        ratio = torch.exp(logps - old)
        return ((ratio > 1 + self.high) & (advantages > 0)) | ((ratio < 1 - self.low) & (advantages < 0))


def k3(logps: Tensor, start: Tensor) -> Tensor:
    """Return (tokens,): an estimate of KL(policy‖start) from tokens that the policy drew (Schulman 2020, `k3`)."""
    gap = start - logps
    return torch.expm1(gap) - gap
