"""LoRA, in PEFT's form and format."""

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.additions.four_bit import BLOCK, hold_in_four_bits
from burnish.errors import ModelError, RecipeError, near_miss
from burnish.methods import Method

WEIGHTS = "adapter_model.safetensors"
PISSA_RATE = 1e-4


class Lora(Method):
    """Train a low-rank update of linear layers (Hu et al. 2021, arXiv 2106.09685): W + (alpha/rank)·B·A.

    All linear layers rather than attention alone, as "LoRA Without Regret" (Thinking Machines 2025) and PEFT's method
    comparison found. 1e-3: on 3,000 rows of Banking77 (MiniLM, 384 wide, 376 steps, one seed) 5e-4, 1e-3 and 2e-3 gave
    dev accuracies of .727, .885 and .892; the wider the network, the lower the best rate (by the first source about
    5e-4 at 2,000 wide, and 3e-4 at 4,000). Variants of LoRA end within one
    or two points of it once the rate is tuned (arXiv 2602.04998), so none is on by itself:

    rank_stabilized: alpha/√rank, so that the rate suits a high rank too (Kalajdzievski 2023, arXiv 2312.03732).
    dora: direction and length of each output's weights apart (Liu et al. 2024, arXiv 2402.09353); a quarter slower.
    init "pissa": A and B start as the largest singular values and vectors of W, which keeps the rest (Meng et al.
    2024, arXiv 2404.02948). Both then move, and from larger values: at a fifth of the rate it got as far as zero
    does within 40 steps of a small task (SmolLM2-135M, one seed). It is saved as an ordinary update of twice the
    rank, which fits the unchanged base.
    b_rate: the rate of B over that of A (LoRA+, Hayou et al. 2024, arXiv 2402.12354; they have about 16).
    quantize "nf4": the base's linear layers are held in four bits a weight while it trains (QLoRA, Dettmers et al.
    2023, arXiv 2305.14314); the adapter that is saved goes onto the base in any format. Needs bitsandbytes.
    """

    learning_rate: float = 1e-3
    rank: int = Field(default=16, ge=1)
    alpha: float | None = Field(default=None, gt=0)  # None: 32; rank-stabilized 2·√rank, which is as much at rank 16
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = ()  # ends of the names of linear layers; empty: all but the output layer
    rank_stabilized: bool = False
    dora: bool = False
    init: Literal["zero", "pissa"] = "zero"
    b_rate: float = Field(default=1.0, gt=0)
    quantize: Literal["nf4"] | None = None

    @model_validator(mode="after")
    def _leaves_the_base_as_it_is(self) -> "Lora":
        """Check that nothing asks for the numbers of weights that are held in four bits.

        Raises:
            RecipeError: `dora` or `init: pissa` does.
        """
        asks = "dora" if self.dora else "init: pissa" if self.init == "pissa" else ""
        if self.quantize and asks:
            raise RecipeError(
                f"method lora: {asks} reads the base's weights, which quantize {self.quantize} rounds; "
                "leave one of them out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _rate_for_init(cls, settings: Any) -> Any:
        """Give PiSSA the rate that suits it, where none is said."""
        if isinstance(settings, dict) and settings.get("init") == "pissa":
            return {"learning_rate": PISSA_RATE, **settings}
        return settings

    def rate_factor(self, name: str) -> float:
        """Return `b_rate` for B, and 1 for all else."""
        return self.b_rate if "lora_B" in name else 1.0

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Wrap the model with PEFT; new parts train in full and are saved with the adapter.

        Raises:
            ModelError: a target is no linear layer of the model, or a layer is too small for PiSSA at this rank.
        """
        modules = dict(model.named_modules())
        kept = [prefix.rstrip(".") for prefix in fresh if prefix.rstrip(".") in modules] or None
        targets = self._targets(model, fresh)
        init: Any = "pissa_niter_16" if self.init == "pissa" else True  # a fast singular value decomposition
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules) or "all-linear",
            modules_to_save=kept,
            exclude_modules=kept,
            use_rslora=self.rank_stabilized,
            use_dora=self.dora,
            init_lora_weights=init,
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in targets.values()),
        )
        if self.quantize:
            hold_in_four_bits(model, self._quantized(model, fresh))
        network: Any = model
        with warnings.catch_warnings():  # PEFT asks transformers by names that are going to change
            warnings.simplefilter("ignore", FutureWarning)
            wrapped: Any = get_peft_model(network, config)
        for name, weight in model.named_parameters():  # PEFT knows new modules, and no parameters that stand alone
            if name in fresh:
                weight.requires_grad = True
        if self.init == "pissa":
            wrapped.save_pretrained = partial(_save_difference, wrapped, _factors(wrapped))
        adapted: nn.Module = wrapped
        return adapted

    def _quantized(self, model: nn.Module, fresh: tuple[str, ...]) -> list[str]:
        """Return the names of all plain linear layers but the output layer and new parts.

        A layer whose rows would share a scale with others stays as it is: on a processor bitsandbytes reads it wrongly.

        Raises:
            ModelError: there are none, or the network is one whose update is merged when it is saved.
        """
        if not isinstance(model, PreTrainedModel):
            raise ModelError(
                f"method lora: {type(model).__name__} is saved with the update merged into its weights, which quantize "
                f"{self.quantize} rounds; leave it out"
            )
        network: Any = model
        output = network.get_output_embeddings()
        names = [
            name
            for name, layer in model.named_modules()
            if type(layer) is nn.Linear and layer is not output and not f"{name}.".startswith(fresh)
            if layer.in_features % BLOCK == 0
        ]
        if not names:
            raise ModelError(
                f"method lora: quantize {self.quantize} holds plain linear layers in four bits, and "
                f"{type(model).__name__} has none whose inputs are a multiple of {BLOCK}; leave it out"
            )
        return names

    @property
    def rounds_base(self) -> bool:
        """Whether the base's weights are held in fewer bits."""
        return self.quantize is not None

    @property
    def _alpha(self) -> float:
        if self.alpha is not None:
            return self.alpha
        return 2 * math.sqrt(self.rank) if self.rank_stabilized else 32

    def _targets(self, model: nn.Module, fresh: tuple[str, ...]) -> dict[str, nn.Module]:
        """Return the linear layers that are updated, by name.

        Raises:
            ModelError: a target is none of them, or one is too small for PiSSA at this rank.
        """
        linear: dict[str, nn.Module] = {
            name: layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear | Conv1D) and not f"{name}.".startswith(fresh)
        }
        for target in self.target_modules:
            if not any(f".{name}".endswith(f".{target}") for name in linear):
                last = sorted({name.rpartition(".")[2] for name in linear})
                raise ModelError(
                    f"method lora: no linear layer of {type(model).__name__} is called {target!r}."
                    f"{near_miss(target, last)} There are: {', '.join(last)}"
                )
        ends = tuple(f".{target}" for target in self.target_modules) or ("",)
        targets = {name: layer for name, layer in linear.items() if f".{name}".endswith(ends)}
        small = [name for name, layer in targets.items() if min(_matrix(layer).shape) < self.rank]
        if self.init == "pissa" and small:
            raise ModelError(
                f"method lora: init pissa takes {self.rank} singular values of each layer (rank), and {small[0]} of "
                f"{type(model).__name__} has {min(_matrix(targets[small[0]]).shape)}; lower the rank"
            )
        return targets


def _matrix(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _factors(wrapped: Any) -> dict[str, Tensor]:
    """Return copies of all A and B, by their names in the saved file."""
    state = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return {name: value.detach().cpu().clone() for name, value in state.items() if "lora_A" in name or "lora_B" in name}


def _save_difference(wrapped: PeftModel, start: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write what training changed, as an update of twice the rank that fits the base as it was: [B, -B₀]·[A; A₀].

    start: A₀ and B₀, which the base lacks while it trains. The scale is kept: alpha follows the rank.
    """
    PeftModel.save_pretrained(wrapped, str(folder))
    weights = load_file(Path(folder) / WEIGHTS)
    for name, first in start.items():
        mine = weights[name]
        weights[name] = torch.cat([mine, first]) if "lora_A" in name else torch.cat([mine, -first], dim=1)
    save_file(weights, Path(folder) / WEIGHTS, metadata={"format": "pt"})
    config: Any = LoraConfig.from_pretrained(str(folder))
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.r *= 2
    config.init_lora_weights = True
    config.save_pretrained(str(folder))
