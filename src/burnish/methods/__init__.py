"""Methods: which weights move."""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import field_validator

from burnish.spec import Part

if TYPE_CHECKING:
    from torch import nn


class Method(Part):
    """Chooses the weights that training moves, and the learning rate that suits them."""

    folder: ClassVar[str] = "burnish.methods"

    learning_rate: float  # each method ships its own default: no rate suits two of them

    @field_validator("learning_rate")
    @classmethod
    def _is_a_rate(cls, rate: float) -> float:
        """Check every member's rate: a field's own bounds would be lost where the member gives its default.

        Raises:
            ValueError: it is no number above 0.
        """
        if not 0 < rate < math.inf:
            raise ValueError("the learning rate must be a number above 0")
        return rate

    @abstractmethod
    def apply(self, model: "nn.Module", *, fresh: tuple[str, ...] = ()) -> "nn.Module":
        """Return the model with `requires_grad` set; weights whose names start with one of `fresh` always train."""
