"""Vectors that are read by their first numbers alone (Matryoshka, Kusupati et al. 2022, arXiv 2205.13147)."""

from collections.abc import Iterable

from torch import Tensor
from torch.nn import functional

from burnish.errors import ModelError


def shortened(vectors: Tensor, dimensions: int) -> Tensor:
    """Return (…, dimensions): the first numbers of each vector, made unit length again; whole vectors as they are."""
    if dimensions == vectors.shape[-1]:
        return vectors
    return functional.normalize(vectors[..., :dimensions].float(), dim=-1)


def require_dimensions(dimensions: Iterable[int], width: int, name: str) -> None:
    """Check that vectors of so many numbers have these first ones; name: of the model that makes them.

    Raises:
        ModelError: they are too short.
    """
    beyond = [count for count in dimensions if count > width]
    if beyond:
        raise ModelError(
            f"{name}: dimensions {', '.join(map(str, beyond))} are asked for, and vectors of this model have {width} "
            "numbers; name fewer, or leave `dimensions` out"
        )
