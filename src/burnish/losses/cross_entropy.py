"""Cross-entropy of logits against classes."""

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from burnish.losses import Loss


class CrossEntropy(Loss):
    """Negative log-likelihood of the right class, summed; with label smoothing ε the target is (1-ε)·onehot + ε/C.

    Source: Szegedy et al. 2016 (arXiv 1512.00567) for the smoothing.
    Gradient: softmax(logits) - target. Needs: labelled rows, or tokens. Relates to: `contrastive`, the same formula
    with passages as classes.
    Example: logits (2, 3), classes (2,) → a scalar.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return the sum over rows. logits: (rows, classes), any float type; classes: (rows,), integers."""
        return functional.cross_entropy(logits.float(), classes, reduction="sum", label_smoothing=self.label_smoothing)
