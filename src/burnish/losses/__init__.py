"""Losses: scores in, the sum of the loss out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from burnish.spec import Part

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Part):
    """A formula. Members are called with tensors and return the SUM over rows, in fp32: the loop divides once."""

    folder: ClassVar[str] = "burnish.losses"


@dataclass(frozen=True, slots=True)
class Answers:
    """How likely answers are, one a row.

    logps: (rows,), ln of an answer's probability, summed over its tokens. reference: the same by the model before it
    was trained, without gradient; zeros where the loss needs none. tokens: (rows,), of each answer.
    """

    logps: "Tensor"
    reference: "Tensor"
    tokens: "Tensor"

    @property
    def gains(self) -> "Tensor":
        """(rows,): by how much each answer has become likelier, in nats."""
        return self.logps - self.reference


class Prefers(ABC):
    """What a loss on preferred and rejected answers to the same prompts provides."""

    needs_reference: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, chosen: Answers, rejected: Answers) -> "Tensor":
        """Return the sum over rows."""

    @abstractmethod
    def rewards(self, answers: Answers) -> "Tensor":
        """Return (rows,): what the loss takes for each answer's reward, of which it compares two."""
