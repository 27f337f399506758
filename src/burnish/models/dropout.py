"""What a model drops at random while it trains: layers, and numbers that attention reads for itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

PLAIN = ("attention_dropout", "activation_dropout", "dropout")  # of modules that call the function, not a layer


def dropout_layers(model: nn.Module) -> list[nn.Dropout]:
    """Return the layers that drop."""
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


def dropout_numbers(model: nn.Module) -> list[tuple[nn.Module, str, float]]:
    """Return the modules that hold such a number of their own, its name, and what it is."""
    return [
        (module, name, value)
        for module in model.modules()
        for name in PLAIN
        if isinstance(value := getattr(module, name, None), float)
    ]


def drops(model: nn.Module) -> bool:
    """Tell whether two passes of a model that trains may differ by chance."""
    return any(layer.p > 0 for layer in dropout_layers(model)) or any(share > 0 for *_, share in dropout_numbers(model))


@contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Let a network drop nothing while this lasts; afterwards it is in the mode that it was in."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
