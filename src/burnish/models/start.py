"""A model as it was before it was trained, kept beside the one that moves: what a loss may hold it to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor, nn

from burnish.additions.attention import switched_off
from burnish.models.dropout import still

_Kept = list[tuple[nn.Parameter, Tensor]]
_starts: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()  # beside the models: nothing of it is saved


def remember_start(model: nn.Module) -> None:
    """Keep a copy of the weights that train, in the model's own number format: of an adapter, these are few."""
    _starts[model] = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.requires_grad]


@contextmanager
def at_start(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the model as it was when it was remembered, without dropout and without gradients.

    Call it before the pass that is trained: the weights are exchanged while this lasts. Soft tokens and prefixes begin
    anywhere, so of a model with these its base is meant, which they do not change.
    """
    with before_training(model) as network:
        kept = _starts[model] if network is model else []
        with exchanged([weight for weight, _ in kept], [start for _, start in kept]):
            yield network


@contextmanager
def before_training(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model that has made no step yet, without dropout and without gradients.

    Of a model with soft tokens or a prefix, its base without these.
    """
    outer: Any = model
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    network: nn.Module = outer.get_base_model() if soft else model
    with still(network), torch.no_grad(), switched_off(network):
        yield network


@contextmanager
def exchanged(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Give weights other values while this lasts; no pass that is trained may have begun before it and end after."""
    own = [weight.data for weight in weights]
    try:
        for weight, value in zip(weights, values, strict=True):
            weight.data = value
        yield
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.data = value


@contextmanager
def rounded(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Let a model compute in another number format while this lasts, by weights that are cast for it."""
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]  # and not codes of four bits
    with exchanged(weights, [weight.detach().to(dtype) for weight in weights]):
        yield
