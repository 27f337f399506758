"""Squared error."""

from torch import Tensor
from torch.nn import functional

from burnish.losses import Loss


class Mse(Loss):
    """Squared error, summed: Σ (prediction - target)².

    Gradient: 2 · (prediction - target). Needs: scored rows. Relates to: `huber`, which outliers pull less.
    Example: predictions (2,), targets (2,) → a scalar.
    """

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over rows. predictions, targets: (rows,), any float type and unit, the same for both."""
        return functional.mse_loss(predictions.float(), targets.float(), reduction="sum")
