"""What must hold before the first step, and at every one."""

import math
from collections.abc import Sequence

from torch import nn

from burnish.additions.four_bit import weights_of
from burnish.errors import DivergedError, ModelError
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.models.dropout import dropout_layers, dropout_numbers
from burnish.models.towers import Towers
from burnish.tasks import Item

SHOWN_IDS = 8


def require_trainable(model: nn.Module, method: Method) -> tuple[int, int]:
    """Return how many weights train, and how many there are.

    Raises:
        ModelError: none trains, or of two towers one alone, which nobody asked for.
    """
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    parameters = sum(weights_of(weight) for weight in model.parameters())
    if not trainable:
        raise ModelError(
            f"method {method.kind} leaves no weight of {type(model).__name__} to train; use {_others(method)}"
        )
    _require_both_towers(model, method)
    return trainable, parameters


def _require_both_towers(model: nn.Module, method: Method) -> None:
    """Check that no tower stands still unless the recipe freezes it.

    Raises:
        ModelError: a method finds something to train in one of them alone.
    """
    towers = next((module for module in model.modules() if isinstance(module, Towers)), None)
    if towers is None or towers.holds_passages or isinstance(method, Full):
        return
    sides = {"queries": towers.queries, "passages": towers.passages}
    moving = [name for name, tower in sides.items() if any(weight.requires_grad for weight in tower.parameters())]
    if len(moving) == 1:
        raise ModelError(
            f"method {method.kind} finds weights to train in the encoder of {moving[0]} alone; use {_others(method)}, "
            "and `freeze` of the method full for a tower that is to stand still"
        )


def _others(method: Method) -> str:
    return " or ".join(name for name in ("lora", "full") if name != method.kind)


def set_dropout(model: nn.Module, share: float) -> None:
    """Set the share that every dropout layer of the model drops.

    Raises:
        ModelError: something is to be dropped, and the model has no such layer.
    """
    layers, plain = dropout_layers(model), dropout_numbers(model)
    if share and not layers and not plain:
        raise ModelError(
            f"training.dropout is {share:g}, and {type(model).__name__} has no dropout layer; leave it out, or give "
            "the method its own (method: {kind: lora, dropout: …})"
        )
    for layer in layers:
        layer.p = share
    for module, name, _ in plain:
        setattr(module, name, share)


def require_finite(step: int, loss: float, norm: float, suspects: Sequence[Item], *, rate: float) -> None:
    """Check that a step, counted from 0, can be made; suspects: items among which the cause is.

    Raises:
        DivergedError: the loss or the gradient is not finite.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    ids = ", ".join(item.id for item in suspects[:SHOWN_IDS])
    raise DivergedError(
        f"step {step + 1}: the loss is {loss} and the gradient's norm {norm}; no step was made. "
        f"Rows of the batch: {ids}. Look at them, or lower training.learning_rate (now {rate:g})"
    )
