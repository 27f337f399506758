"""Losses: scores in, the sum of the loss out."""

from typing import ClassVar

from burnish.spec import Part


class Loss(Part):
    """A formula. Members are called with tensors and return the SUM over rows, in fp32: the loop divides once."""

    folder: ClassVar[str] = "burnish.losses"
