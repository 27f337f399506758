"""(IA)³, in PEFT's form and format."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

from peft import IA3Config, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from burnish.errors import ModelError
from burnish.methods import Method


class _Names(NamedTuple):
    """What a kind of network calls its layers: the ends of their names."""

    attention: tuple[str, ...]  # keys and values; one name where the queries are in the same matrix
    feedforward: str  # the way out, whose inputs are scaled
    but_not: str = "(none)"  # an attention's layer of the same name


_KNOWN = (
    _Names(("k_proj", "v_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    _Names(("k_proj", "v_proj"), "fc2"),  # OPT, BART, Phi
    _Names(("key", "value"), "output.dense", "attention.output.dense"),  # BERT, RoBERTa, ELECTRA
    _Names(("key_proj", "value_proj"), "output.dense", "attention.output.dense"),  # DeBERTa
    _Names(("k_lin", "v_lin"), "ffn.lin2"),  # DistilBERT
    _Names(("k", "v"), "wo"),  # T5
    _Names(("c_attn",), "mlp.c_proj"),  # GPT-2
    _Names(("query_key_value",), "dense_4h_to_h"),  # GPT-NeoX, Falcon, BLOOM
    _Names(("qkv_proj",), "down_proj"),  # Phi-3
    _Names(("Wqkv",), "mlp.Wo"),  # ModernBERT
)


class IA3(Method):
    """Train one factor for each key, value and inner feed-forward value (Liu et al. 2022, arXiv 2205.05638).

    The factors start at 1, so the model starts as itself, and they can be multiplied into its weights afterwards.
    5e-3: PEFT's method comparison gains 14 points over PEFT's own 1e-4 with it; T-Few has 3e-3 with Adafactor.
    """

    learning_rate: float = 5e-3

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Wrap the model with PEFT; new parts train in full and are saved with the factors.

        Raises:
            ModelError: the layers of this network are called by none of the known names.
        """
        modules = dict(model.named_modules())
        kept = [  # the innermost modules: PEFT merges no factors beside a larger one
            name
            for name, module in modules.items()
            if f"{name}.".startswith(fresh) and any(True for _ in module.parameters(recurse=False))
        ] or None
        linear = [
            name
            for name, layer in modules.items()
            if isinstance(layer, nn.Linear | Conv1D) and not f"{name}.".startswith(fresh)
        ]
        attention, feedforward = _scaled(linear, type(model).__name__)
        config = IA3Config(
            target_modules=[*attention, *feedforward],
            feedforward_modules=feedforward,
            modules_to_save=kept,
            fan_in_fan_out=any(isinstance(modules[name], Conv1D) for name in attention),
        )
        network: Any = model
        with warnings.catch_warnings():  # PEFT asks transformers by names that are going to change
            warnings.simplefilter("ignore", FutureWarning)
            wrapped: nn.Module = get_peft_model(network, config)
        for name, weight in model.named_parameters():  # PEFT knows new modules, and no parameters that stand alone
            if name in fresh:
                weight.requires_grad = True
        return wrapped


def _scaled(linear: Iterable[str], network: str) -> tuple[list[str], list[str]]:
    """Return the layers whose outputs, and those whose inputs, are scaled; linear: names of all linear layers.

    Raises:
        ModelError: none of the known kinds of network has such names.
    """
    linear = list(linear)
    for names in _KNOWN:
        found = [[name for name in linear if f".{name}".endswith(f".{end}")] for end in names.attention]
        feedforward = [
            name
            for name in linear
            if f".{name}".endswith(f".{names.feedforward}") and not f".{name}".endswith(f".{names.but_not}")
        ]
        if all(found) and feedforward:
            return [name for part in found for name in part], feedforward
    ends = sorted({name.rpartition(".")[2] for name in linear})
    raise ModelError(
        f"method ia3 scales keys, values and the feed-forward layers, and does not know which of {network}'s linear "
        f"layers these are: {', '.join(ends) or '(there are none)'}. Use lora or full"
    )
