"""ORPO: the preferred answer is learned, and the odds of the rejected one fall behind; no model to compare with."""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses import Answers, Loss, Prefers

HALF = -math.log(2)  # ln P above which ln(1 - P) is better computed by expm1


class Orpo(Loss, Prefers):
    """-ln π(chosen) / |chosen| - weight · log σ(ln odds(chosen) - ln odds(rejected)).

    odds = P / (1 - P), of P = exp(ln π / |answer|), the geometric mean of the tokens' probabilities. weight: λ.
    Source: Hong et al. 2024 (arXiv 2403.07691). Gradient of ln odds in ln P: 1 / (1 - P); where all tokens are certain,
    1 - P is held at the least that numbers can tell, so that the loss stays finite.
    Needs: preferences. Relates to: `cross_entropy`, its first part; `simpo`, its second with another link.
    Example: answers to 4 prompts → a scalar.
    """

    needs_reference: ClassVar[bool] = False

    weight: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    def __call__(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the sum over rows."""
        learned = -(chosen.logps / chosen.tokens).sum()
        return learned - self.weight * logsigmoid(self.rewards(chosen) - self.rewards(rejected)).sum()

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): ln odds."""
        mean = answers.logps / answers.tokens
        mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
        return mean - _log_of_rest(mean)


def _log_of_rest(logps: Tensor) -> Tensor:
    """Return ln(1 - exp(logps)) for numbers below 0, exact on both sides of a half (Mächler 2012)."""
    near = logps > HALF  # each branch is given numbers that it can take, or its gradient would be no number
    small = torch.log(-torch.expm1(torch.where(near, logps, HALF)))
    large = torch.log1p(-torch.exp(torch.where(near, HALF, logps)))
    return torch.where(near, small, large)
