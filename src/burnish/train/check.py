"""What must hold before the first step."""

from torch import nn

from burnish.errors import ModelError
from burnish.methods import Method

PLAIN = ("attention_dropout", "activation_dropout", "dropout")


def require_trainable(model: nn.Module, method: Method) -> tuple[int, int]:
    """Return how many weights train, and how many there are.

    Raises:
        ModelError: none trains.
    """
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    parameters = sum(weight.numel() for weight in model.parameters())
    if not trainable:
        raise ModelError(
            f"method {method.kind} leaves no weight of {type(model).__name__} to train; use {_others(method)}"
        )
    return trainable, parameters


def _others(method: Method) -> str:
    return " or ".join(name for name in ("lora", "full") if name != method.kind)


def set_dropout(model: nn.Module, share: float) -> None:
    """Set the share that every dropout layer of the model drops.

    Raises:
        ModelError: something is to be dropped, and the model has no such layer.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    plain = [  # attention drops by a number of its own in many models
        (module, name) for module in model.modules() for name in PLAIN if isinstance(getattr(module, name, None), float)
    ]
    if share and not layers and not plain:
        raise ModelError(
            f"training.dropout is {share:g}, and {type(model).__name__} has no dropout layer; leave it out, or give "
            "the method its own (method: {kind: lora, dropout: …})"
        )
    for layer in layers:
        layer.p = share
    for module, name in plain:
        setattr(module, name, share)
