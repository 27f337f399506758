"""Weights by the bytes that name them: what is kept of a network on the disk stands under their digest."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def weights_digest(first: str, named: Iterable[tuple[str, Tensor]]) -> str:
    """Return 16 hexadecimal digits that name a text and, in this order, weights: names, formats, shapes and values."""
    digest = hashlib.sha256(first.encode())
    for name, weight in named:
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
