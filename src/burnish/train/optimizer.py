"""Parameter groups and schedules."""

import math
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers.optimization import Adafactor

from burnish.errors import RecipeError
from burnish.methods import Method
from burnish.train.settings import Training

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
_UNDECAYED = re.compile(r"(^|\.)(bias|.*norm.*|ln_\w+)(\.|$)", re.IGNORECASE)
HEAD_FACTOR = 10  # new parts start from noise, and learn at ten times the rate of what is already trained
HEAD_LIMIT = 1e-2  # on Banking77 (MiniLM, 376 steps) ia3, adapters and lora gained 2 to 3 points over half of it


def schedule_factor(step: int, steps: int, training: Training, *, warmup: float = 0.06) -> float:
    """Return the share of the full rate at a step (counted from 0): a linear warm-up, then the schedule down to 0.

    warmup: share of the steps, where the training does not say.
    """
    warm = round((warmup if training.warmup is None else training.warmup) * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if training.schedule == "constant":
        return 1.0
    done = (step - warm) / max(1, steps - warm)
    return 1 - done if training.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def build_optimizer(
    names: Sequence[str],
    weights: Sequence[nn.Parameter],
    training: Training,
    method: Method,
    *,
    fresh: tuple[str, ...],
) -> torch.optim.Optimizer:
    """Return an optimizer over groups that share a rate and a weight decay.

    AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) keeps 8 bytes a weight; with moments of 8 bits (Dettmers et al.
    2022, arXiv 2110.02861, by bitsandbytes) 2; Adafactor (Shazeer & Stern 2018, arXiv 1804.04235), without momentum
    and without rates that follow the weights' size, next to nothing for a matrix.

    New parts have their own rate; with `layer_decay` the rate falls from the top layer to the embeddings
    (ULMFiT, Howard & Ruder 2018, arXiv 1801.06146); norms, biases and vectors are not decayed.
    """
    depths, layers = layer_depths(names)
    learning_rate = training.learning_rate or method.learning_rate
    head_rate = training.head_learning_rate or max(learning_rate, min(HEAD_FACTOR * learning_rate, HEAD_LIMIT))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight, depth in zip(names, weights, depths, strict=True):
        if is_fresh(name, fresh):
            rate = head_rate
        elif depth is None:  # embeddings lie below every layer; final norms and heads above
            rate = learning_rate * (training.layer_decay**layers if "embed" in name.lower() else 1.0)
        else:
            rate = learning_rate * training.layer_decay ** (layers - 1 - depth)
        rate *= method.rate_factor(name)
        decay = 0.0 if weight.squeeze().ndim < 2 or _UNDECAYED.search(name) else training.weight_decay
        groups.setdefault((rate, decay), []).append(weight)
    return _made(
        training.optimizer,
        [
            {"params": members, "lr": rate, "full_rate": rate, "weight_decay": decay}
            for (rate, decay), members in groups.items()
        ],
    )


def _made(kind: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return the optimizer of this kind.

    Raises:
        RecipeError: it comes from a library that is not installed.
    """
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
    if kind == "adafactor":
        lean: Any = Adafactor
        chosen: torch.optim.Optimizer = lean(groups, scale_parameter=False, relative_step=False, warmup_init=False)
        return chosen
    try:
        library: Any = import_module("bitsandbytes.optim")
    except ImportError as error:
        raise RecipeError(
            "training.optimizer: adamw_8bit needs the library bitsandbytes, which is not installed: "
            "pip install 'burnish[8bit]'; or use adafactor"
        ) from error
    made: torch.optim.Optimizer = library.AdamW8bit(groups, betas=(0.9, 0.999))
    return made


def layer_depths(names: Sequence[str]) -> tuple[list[int | None], int]:
    """Return the layer of each parameter, counted from 0 at the bottom (None where it is in none), and their number."""
    depths = [int(found[1]) if (found := _LAYER.search(f".{name}")) else None for name in names]
    return depths, 1 + max((depth for depth in depths if depth is not None), default=-1)


def start_shares(names: Sequence[str], method: Method, *, fresh: tuple[str, ...]) -> dict[str, float]:
    """Return by name the share of the run after which a weight begins to move; new parts move from the first step."""
    depths, layers = layer_depths(names)
    return {
        name: 0.0 if is_fresh(name, fresh) else method.start(name, depth, layers)
        for name, depth in zip(names, depths, strict=True)
    }


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to a share of its full rate; return the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_rate"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def is_fresh(name: str, fresh: tuple[str, ...]) -> bool:
    """Tell whether a parameter belongs to a new part, also where a method has wrapped the model."""
    return any(name.startswith(prefix) or f".{prefix}" in name for prefix in fresh)
