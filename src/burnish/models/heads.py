"""Which parameters of a network are its head, and which stand below it."""

from typing import Any

import torch
from transformers import AutoModel

_AUTO_BASE: Any = AutoModel  # untyped at the library's border


def parts_below(model: Any) -> tuple[str, ...]:
    """Return the prefixes of the parameters below a head: the base's, or its parts' where it stands in no module.

    T5's reader of spans has encoder and decoder beside its head, and calls itself its base.
    """
    if model.base_model is not model:
        return (f"{model.base_model_prefix}.",)
    with torch.device("meta"):  # for the names alone
        plain = _AUTO_BASE.from_config(model.config)
    return tuple(f"{name}." for name, _ in plain.named_children())


def heads(model: Any, below: tuple[str, ...]) -> tuple[str, ...]:
    """Return the prefixes of what stands on the base: whole parts, or their pieces where a weight is the base's.

    below: as `parts_below` returns them.
    """
    names = {name for name, _ in model.named_parameters()}
    base = {id(weight) for name, weight in model.named_parameters() if name.startswith(below)}
    parts = [(f"{name}.", part) for name, part in model.named_children() if f"{name}." not in below]
    found = []
    while parts:
        name, part = parts.pop()
        weights = [id(weight) for weight in part.parameters()]
        if weights and not base & set(weights):
            found.append(name)
        elif weights:
            parts += [(f"{name}{inner}.", piece) for inner, piece in part.named_children()]
            found += [name + own for own, weight in part.named_parameters(recurse=False) if id(weight) not in base]
    return tuple(sorted(name for name in found if name.endswith(".") or name in names))
