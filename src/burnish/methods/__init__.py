"""Methods: which weights move."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from burnish.spec import Part

if TYPE_CHECKING:
    from torch import nn


class Method(Part):
    """Chooses the weights that training moves, and the learning rate that suits them."""

    folder: ClassVar[str] = "burnish.methods"

    learning_rate: float = Field(gt=0)  # each method ships its own default: no rate suits two of them

    @abstractmethod
    def apply(self, model: "nn.Module", *, fresh: tuple[str, ...] = ()) -> "nn.Module":
        """Return the model with `requires_grad` set; weights whose names start with one of `fresh` always train."""
