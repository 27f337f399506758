"""Methods: which weights move."""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from burnish.errors import ModelError
from burnish.spec import Part

if TYPE_CHECKING:
    from torch import Tensor, nn


class Method(Part):
    """Chooses the weights that training moves, and the learning rate that suits them."""

    folder: ClassVar[str] = "burnish.methods"

    learning_rate: float  # each method ships its own default: no rate suits two of them
    warmup: ClassVar[float] = 0.06  # share of the steps, where the recipe does not say

    def rate_factor(self, name: str) -> float:  # noqa: ARG002
        """Return by what the rate of a weight is multiplied; name: the parameter's full name."""
        return 1.0

    @property
    def rounds_base(self) -> bool:
        """Whether the base's weights are held so that an update cannot be merged into them."""
        return False

    def start(self, name: str, layer: int | None, layers: int) -> float:  # noqa: ARG002
        """Return the share of the run, 0…1, after which a weight begins to move; until then it gets no gradient.

        layer: of the parameter, counted from 0 at the bottom; None where it is in none. layers: how many there are.
        """
        return 0.0

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

    def starting_tokens(self, text: str, length: int, folder: str) -> "Tensor":
        """Return (length,) token ids of a text that new tokens start from, repeated or cut.

        Raises:
            ModelError: the model's folder has no tokenizer, or it makes no token of the text.
        """
        import torch
        from transformers import AutoTokenizer

        auto: Any = AutoTokenizer
        try:
            tokenizer = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"method {self.kind} starts from a text, and {folder or 'this model'} has no tokenizer"
            ) from error
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"method {self.kind}: the tokenizer of {folder} makes no token of the text {text!r}")
        return torch.tensor((ids * math.ceil(length / len(ids)))[:length])
