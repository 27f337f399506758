"""Binary cross-entropy: every label is a question of its own, yes or no."""

from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional

from burnish.errors import RecipeError
from burnish.losses import Loss


class Binary(Loss):
    """Binary cross-entropy of logits, averaged over the labels and summed over the rows.

    A row: 1/L · Σ_l -( w_l · y_l · log σ(z_l) + (1 - y_l) · log(1 - σ(z_l)) ). The mean over labels, since a row is the
    unit whatever the number of labels; over rows it is the loss of transformers' multi-label heads.
    `positive_weights: balanced` is w_l = rows without l / rows with l, over the training rows: yes and no then weigh
    alike. The sum is divided by the number of rows, whatever their weights.
    Gradient: 1/L · ( (1 - y)·σ(z) - w·y·(1 - σ(z)) ). Needs: rows with any number of labels. Relates to:
    `cross_entropy`, where exactly one label is right.
    Example: logits (2, 3), targets (2, 3) of zeros and ones → a scalar.
    """

    positive_weights: Literal["none", "balanced"] | tuple[PositiveFloat, ...] = "none"  # listed in the labels' order

    def __call__(self, logits: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return the sum over rows.

        logits: (rows, labels), any float type; targets: the same shape, 0 or 1. weights: (labels,), what
        `positive_weights` asks for.

        Raises:
            RecipeError: the settings ask for weights, and the task gives none.
        """
        if self.positive_weights != "none" and weights is None:
            raise RecipeError("loss binary: positive_weights are for the classification of texts; leave them out here")
        total = functional.binary_cross_entropy_with_logits(
            logits.float(), targets.float(), pos_weight=None if weights is None else weights.float(), reduction="sum"
        )
        return total / logits.shape[1]
