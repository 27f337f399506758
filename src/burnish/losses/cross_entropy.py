"""Cross-entropy of logits against classes."""

from typing import Literal

from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn import functional

from burnish.errors import RecipeError
from burnish.losses import Loss


class CrossEntropy(Loss):
    """Negative log-likelihood of the right class, summed; with label smoothing ε the target is (1-ε)·onehot + ε/C.

    A row of class c counts `weights[c]` times: w_c · (-Σ_k target_k · log softmax(logits)_k). The sum is divided by the
    number of rows and not by that of their weights: `balanced` weights, n / (C · n_c) over the training rows, average
    to 1 there; weights that the recipe lists are taken as they are.
    With `logit_adjustment: τ` the logits are logits + τ·log prior while training, so that the plain logits favour no
    class for being frequent; τ = 1 suits the balanced error (Menon et al. 2021, arXiv 2007.07314).
    Source: Szegedy et al. 2016 (arXiv 1512.00567) for the smoothing.
    Gradient: w_c · (softmax(logits + τ·log prior) - target). Needs: labelled rows, or tokens. Relates to:
    `contrastive`, the same formula with passages as classes; `focal`, which makes easy rows count less.
    Example: logits (2, 3), classes (2,) → a scalar.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | tuple[PositiveFloat, ...] = "none"  # listed in the labels' order
    logit_adjustment: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # τ

    def __call__(
        self, logits: Tensor, classes: Tensor, *, weights: Tensor | None = None, prior: Tensor | None = None
    ) -> Tensor:
        """Return the sum over rows.

        logits: (rows, classes), any float type; classes: (rows,), integers. weights: (classes,), what `class_weights`
        asks for. prior: (classes,), the share of each class in the training rows, none of them 0.

        Raises:
            RecipeError: the settings ask for weights or a prior, and the task gives none.
        """
        if (self.class_weights != "none" and weights is None) or (self.logit_adjustment and prior is None):
            raise RecipeError(
                "loss cross_entropy: class_weights and logit_adjustment are for the classification of texts by one "
                "label; leave them out here"
            )
        logits = logits.float()
        if self.logit_adjustment and prior is not None:
            logits = logits + self.logit_adjustment * prior.float().log()
        if weights is None:
            return functional.cross_entropy(logits, classes, reduction="sum", label_smoothing=self.label_smoothing)
        rows = functional.cross_entropy(logits, classes, reduction="none", label_smoothing=self.label_smoothing)
        return (rows * weights.float()[classes]).sum()
