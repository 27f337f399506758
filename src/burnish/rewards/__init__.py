"""Rewards: how good a text is that a model has written."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from burnish.errors import DataError
from burnish.records import Message
from burnish.spec import Part


@dataclass(frozen=True, slots=True)
class Written:
    """A text and what it is judged by; id: of the row that its prompt is of."""

    id: str
    prompt: str | tuple[Message, ...]
    text: str
    answers: tuple[str, ...] = ()  # right ones, where the row has any
    passages: tuple[str, ...] = ()  # what it should rest on


Judge: TypeAlias = Callable[[Sequence[Written]], list[float]]


class Reward(Part):
    """How good a text is: a number on any scale, higher is better. `load` makes ready what judges.

    weight: of the reward in the sum of several; below 0 it is a fine.
    """

    folder: ClassVar[str] = "burnish.rewards"
    reads: ClassVar[Literal["answers", "passages", ""]] = ""  # rows without any are refused before the first step

    weight: float = Field(default=1.0, allow_inf_nan=False)

    @property
    def label(self) -> str:
        """What logs call it."""
        return self.kind

    @abstractmethod
    def load(self) -> Judge:
        """Return what gives each text a number, in the order given."""


class Jury:
    """Several rewards, loaded, and their weighted sum."""

    def __init__(self, rewards: Sequence[Reward]) -> None:
        """Load them."""
        self._weights = [reward.weight for reward in rewards]
        self._labels = [reward.label for reward in rewards]
        self._judges = [reward.load() for reward in rewards]

    def __call__(self, texts: Sequence[Written]) -> list[dict[str, float]]:
        """Return each text's rewards by their labels, without weights.

        Raises:
            DataError: one is no finite number, or there are not as many as texts.
        """
        columns = [judge(texts) for judge in self._judges] if texts else [[] for _ in self._judges]
        for label, column in zip(self._labels, columns, strict=True):
            if len(column) != len(texts):
                raise DataError(f"reward {label} gave {len(column)} numbers for {len(texts)} texts")
            for written, value in zip(texts, column, strict=True):
                if not math.isfinite(value):
                    raise DataError(f"reward {label} of a text for row {written.id!r} is {value}: {written.text!r}")
        return [dict(zip(self._labels, row, strict=True)) for row in zip(*columns, strict=True)]

    def total(self, parts: dict[str, float]) -> float:
        """Return the weighted sum of one text's rewards."""
        return math.fsum(weight * parts[label] for weight, label in zip(self._weights, self._labels, strict=True))
