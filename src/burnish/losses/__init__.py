"""Losses: scores in, the sum of the loss out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from burnish.spec import Part

if TYPE_CHECKING:
    from torch import Tensor

Reads = Literal["alone", "all_but", "attention"]


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


class Joint(ABC):
    """What a loss that teaches a retriever by what its passages do for a generator's answers provides.

    reads: what `logps` are given. `alone`: one passage; `all_but`: all the question's passages but this one;
    `attention`: no logps at all, but the attention that falls on each passage (`adist`, which is called otherwise).
    trains_generator: whether logps get a gradient; where they do not, they may come from a pass without one.
    """

    reads: ClassVar[Reads] = "alone"
    trains_generator: ClassVar[bool] = False
    temperature: float  # of the retriever's softmax

    @abstractmethod
    def __call__(self, scores_rk: "Tensor", there_rk: "Tensor", logps_rkt: "Tensor", tokens_r: "Tensor") -> "Tensor":
        """Return the sum over questions, in fp32, or in fp64 of such scores and logps.

        scores_rk: (questions, passages), the retriever's fresh scores of a question's passages, with gradient.
        there_rk: the same shape, false where the question has fewer passages; at least one is true. logps_rkt:
        (questions, passages, tokens), ln of the probability of each token of the answer, 0 where it is padded.
        tokens_r: (questions,), of the answer, at least one.
        """
