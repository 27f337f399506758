"""Keys and values of our own before those of the text, in every attention of a network."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from burnish.errors import ModelError

NAME = "prefix"  # of the new module inside the attention that reads it
IMPLEMENTATIONS = {"eager": "eager_behind_prefix", "sdpa": "sdpa_behind_prefix"}  # transformers' name → ours

Pairs = dict[str, tuple[Tensor, Tensor]]  # an attention's name → its keys and values, each (rows, heads, tokens, width)

_seen: ContextVar[dict[nn.Module, tuple[Tensor, Tensor]] | None] = ContextVar("seen", default=None)


class KeysAndValues(nn.Module):
    """What an attention reads before its text, in each row alike: (heads, length, width) keys and as many values."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Start from these, each (heads, length, width)."""
        super().__init__()
        self.keys = nn.Parameter(keys)
        self.values = nn.Parameter(values)
        self.on = True

    def forward(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return these and behind them the text's, which are (rows, heads, tokens, width)."""
        rows = len(keys)
        return (
            torch.cat([self.keys.to(keys.dtype).expand(rows, -1, -1, -1), keys], dim=2),
            torch.cat([self.values.to(values.dtype).expand(rows, -1, -1, -1), values], dim=2),
        )


def put_before(network: nn.Module, length: int) -> None:
    """Put keys and values of zero before those of the text in every attention of the network, in place.

    They stand before what a cache gives and are never stored in one, and the text keeps its places. What transformers
    computes with them is computed by its own functions, which are given more keys and a wider mask.

    Raises:
        ModelError: the network's attention is computed elsewhere, or in a way that takes no wider mask.
    """
    outer: Any = network
    implementation = outer.config._attn_implementation
    if implementation not in IMPLEMENTATIONS:
        raise ModelError(
            f"method prefix: {type(network).__name__} computes attention with {implementation}, and keys before the "
            "text's are understood with sdpa and eager. Use lora or full"
        )
    _register()
    outer.set_attn_implementation(IMPLEMENTATIONS[implementation])
    found = keys_and_values(network, torch.zeros(1, dtype=torch.long))
    if not found:
        outer.set_attn_implementation(implementation)
        raise ModelError(
            f"method prefix: {type(network).__name__} does not compute attention by the functions of transformers "
            "that any network may use, so that no keys can be put before the text's. Use lora or full"
        )
    for name, (keys, values) in found.items():
        before = [part.new_zeros(part.shape[1], length, part.shape[3]) for part in (keys, values)]
        network.get_submodule(name).add_module(NAME, KeysAndValues(*before))


@torch.no_grad()
def start_from(network: nn.Module, tokens: Tensor) -> None:
    """Set the keys and values to those that the network has for these tokens, (length,) ids."""
    with switched_off(network):
        found = keys_and_values(network, tokens)
    for name, (keys, values) in found.items():
        prefix = _prefix_of(network.get_submodule(name))
        assert prefix is not None
        prefix.keys.copy_(keys[0])
        prefix.values.copy_(values[0])


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """Let the network compute as if it had no keys before the text's; its new parts stay as they are."""
    prefixes = [module for module in network.modules() if isinstance(module, KeysAndValues)]
    for prefix in prefixes:
        prefix.on = False
    try:
        yield
    finally:
        for prefix in prefixes:
            prefix.on = True


@torch.no_grad()
def keys_and_values(network: nn.Module, tokens: Tensor) -> Pairs:
    """Return what each attention is given for these tokens, (tokens,) ids; a decoder behind an encoder reads them too.

    An attention that several layers share is asked in the first of them. Rotary networks read the tokens at the places
    before the first one of any text, as if they stood there.
    """
    outer: Any = network
    below = outer.base_model  # a head may want a text of another form
    ids = tokens[None].to(outer.device)
    inputs = {"input_ids": ids}
    rotary = any("rotaryembedding" in type(module).__name__.lower() for module in network.modules())
    if outer.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    elif rotary and "position_ids" in signature(below.forward).parameters:
        inputs["position_ids"] = torch.arange(-len(tokens), 0, device=outer.device)[None]
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    training, token = network.training, _seen.set(found)
    network.eval()
    try:
        below(**inputs)
    finally:
        _seen.reset(token)
        network.train(training)
    return {name: found[module] for name, module in network.named_modules() if module in found}


def _register() -> None:
    """Make our functions known to transformers, and which masks they take."""
    for name, attend, mask in (
        ("eager", _behind(eager_attention), eager_mask),
        ("sdpa", _behind(sdpa_attention_forward, hides_by_order=True), sdpa_mask),
    ):
        AttentionInterface.register(IMPLEMENTATIONS[name], attend)
        AttentionMaskInterface.register(IMPLEMENTATIONS[name], mask)


def _behind(attend: Callable[..., Any], *, hides_by_order: bool = False) -> Callable[..., Any]:
    """Return an attention function that puts a module's keys and values before the ones it is given.

    hides_by_order: whether it takes no mask for `each token sees those up to itself`, which holds no longer then.
    """

    def attend_behind(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
    ) -> Any:
        seen = _seen.get()
        if seen is not None:
            seen.setdefault(module, (key, value))
        prefix = _prefix_of(module)
        if prefix is None or not prefix.on:
            return attend(module, query, key, value, attention_mask, **settings)
        if attention_mask is None and hides_by_order:
            attention_mask = _order(module, query, key, settings.get("is_causal"))
        length = prefix.keys.shape[1]
        if attention_mask is not None:
            is_seen = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = functional.pad(attention_mask, (length, 0), value=is_seen)
        if settings.get("position_bias") is not None:
            settings["position_bias"] = functional.pad(settings["position_bias"], (length, 0))
        return attend(module, query, *prefix(key, value), attention_mask, **settings)

    return attend_behind


def _order(module: Any, query: Tensor, key: Tensor, is_causal: bool | None) -> Tensor | None:
    """Return the mask, (1, 1, queries, keys), that transformers leaves to sdpa, or None where all is seen."""
    queries, keys = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal  # as transformers' sdpa asks
    if queries == 1 or not causal:
        return None
    return torch.ones(1, 1, queries, keys, dtype=torch.bool, device=query.device).tril()


def eager_attention(module: nn.Module, *inputs: Any, **settings: Any) -> Any:
    """Compute attention by the function that stands beside the module's class for it.

    Raises:
        ModelError: there is none.
    """
    for kind in type(module).__mro__:
        found = vars(sys.modules[kind.__module__]).get("eager_attention_forward")
        if found is not None:
            return found(module, *inputs, **settings)
    raise ModelError(f"{type(module).__name__} has no eager attention of its own")


def _prefix_of(attention: nn.Module) -> KeysAndValues | None:
    prefix = dict(attention.named_children()).get(NAME)
    return prefix if isinstance(prefix, KeysAndValues) else None
