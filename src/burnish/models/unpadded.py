"""An encoder's layers without padding: texts stand one behind the other in a row, and each attends to itself alone.

What comes before the layers (embeddings, positions) and behind them (poolers, heads) sees the padded rectangle as ever,
with zeros where no token is. Attention is computed by torch's SDPA, for all texts of one length at once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_layers import GradientCheckpointingLayer

from burnish.models.dropout import still
from burnish.models.grouped import attend, suits

ARGUMENTS = ("hidden_states", "attention_mask")  # of a stack of layers
NAME = "sdpa_unpadded"  # of our attention function, as transformers knows it
WORTH = 0.02  # share of padding that pays for moving tokens to and fro

_exact: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # stacks that have been tried
_left: ContextVar[bool] = ContextVar("left", default=False)  # whether all stacks stay padded
_texts: ContextVar["_Texts | None"] = ContextVar("texts", default=None)  # that layers read


@dataclass(frozen=True)
class _Texts:
    """Texts in a row: which places of the rectangle its tokens come from, and runs of texts of one length.

    runs: (texts, tokens of each), in the row's order. config: of the network that reads them.
    """

    places: Tensor
    runs: tuple[tuple[int, int], ...]
    shape: torch.Size  # of the rectangle
    config: Any

    @property
    def sizes(self) -> list[int]:
        """Tokens of each run."""
        return [texts * tokens for texts, tokens in self.runs]


def unpad(network: nn.Module) -> None:
    """Let the layers of a network skip padding, where they stand in a stack of BERT's form; others are left alone.

    Outputs are the same where a token is, and 0 elsewhere. A stack is tried once, on random states, and stays padded
    where it gives other numbers: where it adds something for the distance of two tokens, for example. On a GPU it stays
    padded: there many small products take longer than one that is partly for nothing.
    """
    AttentionInterface.register(NAME, _attend)
    for module in network.modules():
        if _is_stack(module) and _pack not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_pack, with_kwargs=True)
            module.register_forward_hook(_unpack, always_call=True)


@contextmanager
def padding_computed(*, when: bool = True) -> Iterator[None]:
    """Let no layer skip padding while this lasts: where states are read of tokens that no other token sees."""
    token = _left.set(when or _left.get())
    try:
        yield
    finally:
        _left.reset(token)


def unpadded_again() -> Callable[[], AbstractContextManager[None]] | None:
    """Return what lets layers be computed later as they are now; None where they read a rectangle."""
    found = _texts.get()
    return None if found is None else partial(_within, found)


def _is_stack(module: nn.Module) -> bool:
    """Tell whether a module runs hidden states and a mask through numbered layers, as BERT's encoder does."""
    if isinstance(module, GradientCheckpointingLayer) or not isinstance(getattr(module, "layer", None), nn.ModuleList):
        return False
    return [*signature(module.forward).parameters][:2] == [*ARGUMENTS] and _config(module) is not None


def _config(stack: nn.Module) -> Any:
    """Return the configuration that a stack's layers read, where they compute attention by SDPA."""
    found = (getattr(module, "config", None) for module in stack.modules())
    return next((config for config in found if getattr(config, "_attn_implementation", "") == "sdpa"), None)


def _pack(stack: nn.Module, given: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
    """Put the tokens of all texts into one row, and let attention stay within each text until `_unpack`."""
    said = {**dict(zip(ARGUMENTS, given, strict=False)), **settings}
    states, mask = (said.get(name) for name in ARGUMENTS)
    others = [value for name, value in said.items() if name not in ARGUMENTS]
    plain = len(given) <= len(ARGUMENTS) and all(value is None or value is False for value in others)
    config = _config(stack)  # none where another function has come to compute attention
    if _left.get() or not plain or config is None or not isinstance(mask, Tensor) or not isinstance(states, Tensor):
        return None
    texts = _laid_out(states, mask, config)
    if texts is None or not _gives_the_same(stack):
        return None
    _begin(texts)
    row = states.flatten(0, 1).index_select(0, texts.places)[None]
    return (), {**said, "hidden_states": row, "attention_mask": texts}


def _unpack(_stack: nn.Module, _given: tuple[Any, ...], out: Any) -> Any:
    """Put the tokens back into the rectangle; also called where a layer has raised an error, without an output."""
    texts = _texts.get()
    if texts is None:
        return out
    _end(texts)
    if out is None:
        return None
    states = out.last_hidden_state[0]
    rectangle = states.new_zeros(texts.shape[0] * texts.shape[1], texts.shape[2])
    out.last_hidden_state = rectangle.index_copy(0, texts.places, states).view(texts.shape)
    return out


def _laid_out(states: Tensor, mask: Tensor, config: Any) -> _Texts | None:
    """Return how the tokens of a rectangle stand in a row; None where it has next to no padding, or another mask.

    states: (texts, width, …); mask: (texts, 1, width, width), true where a key is seen.
    """
    if states.device.type != "cpu" or mask.dtype != torch.bool or mask.dim() != 4:
        return None
    is_token = mask[:, 0, 0]
    lengths = is_token.sum(dim=1)
    if lengths.sum() > (1 - WORTH) * is_token.numel() or not lengths.all():
        return None
    if not torch.equal(mask, is_token[:, None, None].expand_as(mask)):
        return None
    order = lengths.argsort(descending=True, stable=True)
    text, place = is_token[order].nonzero(as_tuple=True)
    runs = tuple((len([*same]), tokens) for tokens, same in groupby(lengths[order].tolist()))
    return _Texts(order[text] * is_token.shape[1] + place, runs, states.shape, config)


def _begin(texts: _Texts) -> None:
    _texts.set(texts)
    texts.config._attn_implementation = NAME


def _end(texts: _Texts) -> None:
    texts.config._attn_implementation = "sdpa"
    _texts.set(None)


@contextmanager
def _within(texts: _Texts) -> Iterator[None]:
    """Let layers compute attention within these texts while this lasts."""
    _begin(texts)
    try:
        yield
    finally:
        _end(texts)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: _Texts, **settings: Any
) -> tuple[Tensor, None]:
    """Return (1, tokens, heads, width); query, key, value: (1, heads, tokens, width).

    Raises:
        NotImplementedError: the network adds something to what attention computes.
    """
    if settings.get("position_bias") is not None:
        raise NotImplementedError("an attention that adds a bias for the distance")
    settings.pop("is_causal", None)
    parts = [torch.split(part, attention_mask.sizes, dim=2) for part in (query, key, value)]
    found = []
    for (texts, tokens), *own in zip(attention_mask.runs, *parts, strict=True):
        q, k, v = (part.view(part.shape[1], texts, tokens, -1).transpose(0, 1) for part in own)
        if suits(q, k, settings):
            seen = torch.ones(1, 1, tokens, tokens, dtype=torch.bool)
            out = attend(q, k, v, seen, settings.get("scaling"))
        else:
            out, _ = sdpa_attention_forward(module, q, k, v, None, is_causal=False, **settings)
        found.append(out.flatten(0, 1))
    return torch.cat(found)[None], None


def _gives_the_same(stack: nn.Module) -> bool:
    """Tell whether a stack gives the same without padding, by trying it once."""
    if stack not in _exact:
        _exact[stack] = _is_exact(stack)
    return _exact[stack]


@torch.no_grad()
def _is_exact(stack: nn.Module) -> bool:
    lengths, width = torch.tensor([5, 3, 2]), int(_config(stack).hidden_size)
    weight = next(weight for weight in stack.parameters() if weight.is_floating_point())
    made = torch.Generator().manual_seed(0)
    states = torch.randn(len(lengths), 5, width, generator=made).to(weight.dtype)
    is_token = torch.arange(5) < lengths[:, None]
    mask = is_token[:, None, None].expand(-1, -1, 5, -1)
    found = []
    try:
        with still(stack):
            for _exact[stack] in (False, True):
                found.append(stack(hidden_states=states, attention_mask=mask).last_hidden_state[is_token])
    except (TypeError, AttributeError, ValueError, NotImplementedError, RuntimeError):
        return False  # it does not hand our function through
    allowed = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((found[1] - found[0]).abs().max() < allowed * found[0].abs().max())
