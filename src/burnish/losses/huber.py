"""Huber loss: squared near the target, straight far from it."""

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from burnish.losses import Loss


class Huber(Loss):
    """Huber loss, summed: e²/2 where |e| ≤ δ, else δ·(|e| - δ/2), with e = prediction - target.

    Source: Huber 1964 (Annals of Mathematical Statistics 35). Gradient: e, held between -δ and δ.
    Needs: scored rows. Relates to: `mse`, twice this where no error is larger than δ.
    Example: predictions (2,), targets (2,) → a scalar.
    """

    delta: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # in the targets' unit: standard deviations

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over rows. predictions, targets: (rows,), any float type and unit, the same for both."""
        return functional.huber_loss(predictions.float(), targets.float(), reduction="sum", delta=self.delta)
