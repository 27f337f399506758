"""LoRA, in PEFT's form and format."""

import warnings
from typing import Any

from peft import LoraConfig, get_peft_model
from pydantic import Field
from torch import nn

from burnish.methods import Method


class Lora(Method):
    """Train a low-rank update of every linear layer (Hu et al. 2021, arXiv 2106.09685): W + (alpha/rank)·B·A.

    All linear layers rather than attention alone, and about ten times the rate of full fine-tuning: both as
    "LoRA Without Regret" (Thinking Machines 2025) and PEFT's method comparison found.
    """

    learning_rate: float = 5e-4
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Wrap the model with PEFT; new parts train in full and are saved with the adapter."""
        modules = {name for name, _ in model.named_modules()}
        kept = [prefix.rstrip(".") for prefix in fresh if prefix.rstrip(".") in modules] or None
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules="all-linear",
            modules_to_save=kept,
            exclude_modules=kept,
        )
        network: Any = model
        with warnings.catch_warnings():  # PEFT asks transformers by names that are going to change
            warnings.simplefilter("ignore", FutureWarning)
            wrapped: nn.Module = get_peft_model(network, config)
        for name, weight in model.named_parameters():  # PEFT knows new modules, and no parameters that stand alone
            if name in fresh:
                weight.requires_grad = True
        return wrapped
