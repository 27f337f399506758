"""Full fine-tuning."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field
from torch import nn

from burnish.errors import ModelError, near_miss
from burnish.methods import Method

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
_EMBEDDING = re.compile(r"embed|(^|\.)(wte|wpe|shared)\.", re.IGNORECASE)
UNFROZEN_BY = 0.5  # share of the run; the second half trains all weights together


class Full(Method):
    """Train every weight, or all but those that are frozen.

    5e-5: the middle of the rates that BERT's authors searched (Devlin et al. 2019, arXiv 1810.04805); a large causal
    model wants less, about 1e-5. `gradually` is ULMFiT's unfreezing (Howard & Ruder 2018, arXiv 1801.06146): the top
    layer and what stands above it move from the first step, one more layer with each equal share of the first half
    of the run, the embeddings last.
    """

    learning_rate: float = 5e-5
    freeze_layers: int = Field(default=0, ge=0)  # the lowest ones; of an encoder-decoder, in both of its stacks
    freeze_embeddings: bool = False  # a tied output layer is the same weight, and is frozen with them
    freeze: tuple[str, ...] = ()  # patterns of parameter names, such as "*.layer_norm.*"
    unfreeze: Literal["at once", "gradually"] = "at once"

    def start(self, name: str, layer: int | None, layers: int) -> float:
        """Return when a weight begins to move; all at once, or from the top down."""
        if self.unfreeze == "at once":
            return 0.0
        if layer is not None:
            return UNFROZEN_BY * (layers - 1 - layer) / layers
        return UNFROZEN_BY if _EMBEDDING.search(name) else 0.0

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Let every weight move that is not frozen.

        Raises:
            ModelError: the model has fewer layers than are to be frozen, or a pattern fits none of its weights.
        """
        names = [name for name, _ in model.named_parameters()]
        layers = [int(found[1]) if (found := _LAYER.search(f".{name}")) else None for name in names]
        self._check_depth(model, 1 + max((layer for layer in layers if layer is not None), default=-1))
        self._check_patterns(model, [name for name in names if not name.startswith(fresh)])
        for (name, weight), layer in zip(model.named_parameters(), layers, strict=True):
            weight.requires_grad = name.startswith(fresh) or not (
                (layer is not None and layer < self.freeze_layers)
                or (self.freeze_embeddings and _EMBEDDING.search(name))
                or any(fnmatchcase(name, pattern) for pattern in self.freeze)
            )
        return model

    def _check_depth(self, model: nn.Module, layers: int) -> None:
        """Check that there are as many layers as the settings speak of.

        Raises:
            ModelError: there are fewer.
        """
        if self.freeze_layers > layers:
            raise ModelError(
                f"method full: freeze_layers is {self.freeze_layers}, and {type(model).__name__} has {layers} layers"
            )
        if self.unfreeze == "gradually" and not layers:
            raise ModelError(
                f"method full: no layer of {type(model).__name__} is numbered, so none can be unfrozen before another; "
                "leave `unfreeze` out"
            )

    def _check_patterns(self, model: nn.Module, names: Sequence[str]) -> None:
        """Check that every pattern freezes something; names: of the parameters that are not new.

        Raises:
            ModelError: one freezes nothing.
        """
        for pattern in self.freeze:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = near_miss(pattern.strip("*."), _parts(names))
                raise ModelError(
                    f"method full: freeze pattern {pattern!r} fits no weight of {type(model).__name__} (new parts "
                    f"always train).{hint} Its weights are called like {', '.join(names[:3])}"
                )


def _parts(names: Iterable[str]) -> set[str]:
    """Return every run of a name's parts: of `a.b.c` also `b`, `a.b` and `b.c`."""
    return {
        ".".join(parts[first:end])
        for parts in (name.split(".") for name in names)
        for first in range(len(parts))
        for end in range(first + 1, len(parts) + 1)
    }
