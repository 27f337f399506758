"""Focal loss: rows that the model already gets right count less."""

from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from burnish.errors import RecipeError
from burnish.losses import Loss


class Focal(Loss):
    """Cross-entropy times (1 - p)^γ, p being the probability of the right class, summed.

    A row of class c: -w_c · (1 - p)^γ · log p. Rows are counted as in `cross_entropy`: the sum is divided by the
    number of rows, whatever their weights.
    Source: Lin et al. 2017 (arXiv 1708.02002), with softmax in the place of their sigmoid; γ = 2 is their choice.
    Gradient: w_c · ((1 - p)^γ - γ · p · (1 - p)^(γ - 1) · log p) · (softmax(logits) - onehot).
    Needs: labelled rows. Relates to: `cross_entropy`, which it is for γ = 0.
    Example: logits (2, 3), classes (2,) → a scalar.
    """

    gamma: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    class_weights: Literal["none", "balanced"] | tuple[PositiveFloat, ...] = "none"  # listed in the labels' order

    def __call__(self, logits: Tensor, classes: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return the sum over rows.

        logits: (rows, classes), any float type; classes: (rows,), integers. weights: (classes,), what `class_weights`
        asks for.

        Raises:
            RecipeError: the settings ask for weights, and the task gives none.
        """
        if self.class_weights != "none" and weights is None:
            raise RecipeError("loss focal: class_weights are for the classification of texts; leave them out here")
        right = logits.float().log_softmax(dim=1).gather(1, classes[:, None])[:, 0]
        wrong = -torch.expm1(right)  # 1 - p, exact where p is nearly 1
        eased = wrong.clamp_min(torch.finfo(torch.float32).tiny) ** self.gamma  # γ < 1 has no slope at 0
        rows = -eased * right
        return (rows if weights is None else rows * weights.float()[classes]).sum()
