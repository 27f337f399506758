"""Layers whose activations are not kept: they are computed again when gradients flow back."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from burnish.errors import ModelError
from burnish.models.segments import cut_again
from burnish.models.unpadded import unpadded_again


def recompute_layers(model: nn.Module, *, on: bool = True) -> None:
    """Let every layer of the transformers in a model keep its input alone while it trains, or all again.

    The gradient is the same, dropout included, for one more forward pass (Chen et al. 2016, arXiv 1604.06174).

    Raises:
        ModelError: there is no layer that transformers can compute again.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if on and not layers:
        raise ModelError(
            f"training.gradient_checkpointing: {type(model).__name__} has no layers that can be computed again"
        )
    for layer in layers:
        layer.gradient_checkpointing = on
        layer._gradient_checkpointing_func = _checkpointed


def _checkpointed(layer: Callable[..., Any], *given: Any) -> Any:
    return checkpoint(layer, *given, use_reentrant=False, context_fn=_contexts)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what a layer is computed in at first, and what again."""
    return nullcontext(), _Again(unpadded_again() or cut_again())


class _Again(AbstractContextManager[None]):
    """A context that may be entered as often as gradients flow back."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._open: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        self._open.append(self._make())
        self._open[-1].__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._open.pop().__exit__(*raised)
