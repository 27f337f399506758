"""Linear layers whose weights are held in four bits each, and computed with in the format of what they read."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from burnish.errors import ModelError

BLOCK = 64  # weights that share a scale


def hold_in_four_bits(model: nn.Module, names: Sequence[str]) -> None:
    """Replace plain linear layers, in place, by those of bitsandbytes in NF4, their scales quantized too.

    Dettmers et al. 2023 (arXiv 2305.14314): about 4.1 bits a weight. Nothing trains in them; gradients flow through.
    Layers are quantized on the GPU, if there is one, one after the other.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    try:
        library: Any = import_module("bitsandbytes").nn
    except ImportError as error:
        raise ModelError(
            "method lora: quantize nf4 needs the library bitsandbytes, which is not installed: "
            "pip install 'burnish[4bit]'; or leave quantize out"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in names:
        layer: Any = model.get_submodule(name)
        with torch.random.fork_rng(devices=[]):  # it draws weights, which are not what an adapter begins with
            held = library.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compress_statistics=True,
                quant_type="nf4",
            )
        held.weight = library.Params4bit(
            layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", blocksize=BLOCK
        )
        if layer.bias is not None:
            held.bias = nn.Parameter(layer.bias.data, requires_grad=False)
        held.support_avx512bf16_for_cpu = False  # else a pass without gradients packs the weights for such passes alone
        model.set_submodule(name, held.to(device))


def weights_of(parameter: nn.Parameter) -> int:
    """Return how many weights a parameter holds, of which two share a byte where they are held in four bits."""
    state: Any = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())
