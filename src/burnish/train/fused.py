"""LoRA's linear layers with fewer passes over memory: the update is added by the matrix product that makes it."""

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn

DEFAULT = "default"  # PEFT's name of a model's first adapter


def fuse(model: nn.Module) -> None:
    """Let every plain LoRA layer of the model compute its sum in one product, in place.

    What PEFT knows beside it (merged, switched off, several adapters, dropout, DoRA) is computed as PEFT does.
    """
    for module in model.modules():
        if type(module) is lora.Linear and type(module.get_base_layer()) is nn.Linear:
            module.__class__ = FusedLinear


class FusedLinear(lora.Linear):
    """x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ without a copy for each sum, forwards and backwards."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output, (…, outputs); x: (…, inputs)."""
        if args or kwargs or not self._is_plain(x):
            slow: Tensor = super().forward(x, *args, **kwargs)
            return slow
        base, down, up = self.get_base_layer(), self.lora_A[DEFAULT], self.lora_B[DEFAULT]
        scale = self.scaling[DEFAULT]
        update: Any = _Update
        out: Tensor = update.apply(x, base.weight, base.bias, down.weight, up.weight, scale)
        return out

    def _is_plain(self, x: Tensor) -> bool:
        """Tell whether the one adapter is on, and nothing else is to be computed."""
        if self.active_adapters != [DEFAULT] or DEFAULT not in self.lora_A:
            return False
        base, down = self.get_base_layer(), self.lora_A[DEFAULT]
        return (
            not self.disable_adapters
            and not self.merged
            and not self.use_dora.get(DEFAULT, False)
            and not (self.training and isinstance(self.lora_dropout[DEFAULT], nn.Dropout))
            and not base.weight.requires_grad
            and x.dtype == base.weight.dtype == down.weight.dtype
            and not torch.is_autocast_enabled(x.device.type)
        )


class _Update(torch.autograd.Function):
    """The layer's formula; gradients: dA = s·(g·B)ᵀ·x, dB = s·gᵀ·(x·Aᵀ), dx = g·W + s·(g·B)·A."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ a.T
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        out.addmm_(inner, b.T, alpha=scale)
        ctx.save_for_backward(flat, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner, weight, a, b = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        through = (gradient @ b).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight).addmm_(through, a).view(ctx.shape)
        return to_x, None, None, through.T @ flat, (gradient.T @ inner).mul_(ctx.scale), None
