"""Adapters merged into the weights that they stand on: a model that only computes is then as fast as its base."""

from collections import Counter
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn


def merged(network: nn.Module) -> nn.Module:
    """Undo what PEFT has wrapped, in place: updates go into their weights, and trained copies replace frozen parts.

    Exact but for rounding, so do it in fp32. What is no update of a weight stays as it is: soft tokens, prefixes,
    bottlenecks; so does an update of a weight that another layer reads too, which must not get it (a tied LM head).
    """
    readers = Counter(id(weight) for module in network.modules() for weight in module.parameters(recurse=False))
    for name, module in list(network.named_modules()):
        layer: Any = module
        if isinstance(layer, BaseTunerLayer):
            plain = layer.get_base_layer()
            if any(readers[id(weight)] > 1 for weight in plain.parameters(recurse=False)):
                continue
            layer.merge()
        elif isinstance(layer, ModulesToSaveWrapper):
            plain = layer.modules_to_save[layer.active_adapters[0]]
        else:
            continue
        above, _, last = name.rpartition(".")
        setattr(network.get_submodule(above), last, plain)
    return network
