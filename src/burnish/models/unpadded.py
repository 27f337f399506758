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
        if is_stack(module) and _pack not in module._forward_pre_hooks.values():
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


def is_stack(module: nn.Module) -> bool:
    """Tell whether a module runs hidden states and a mask through numbered layers, as BERT's encoder does."""
    if isinstance(module, GradientCheckpointingLayer) or not isinstance(getattr(module, "layer", None), nn.ModuleList):
        return False
    return [*signature(module.forward).parameters][:2] == [*ARGUMENTS] and _config(module) is not None


def _config(stack: nn.Module) -> Any:
    """Return the configuration that a stack's layers read, where they compute attention by SDPA."""
    found = (getattr(module, "config", None) for module in stack.modules())
    return next((config for config in found if getattr(config, "_attn_implementation", "") == "sdpa"), None)


def width_of(stack: nn.Module) -> int:
    """Return how many numbers a state of a stack has."""
    return int(_config(stack).hidden_size)


def _pack(stack: Any, given: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
    """Put the tokens of all texts into one row, and let attention stay within each text until `_unpack`."""
    said, config = spoken(given, settings), _config(stack)  # none where another function has come to compute attention
    if said is None or config is None or not len(stack.layer):
        return None
    texts = _laid_out(said["hidden_states"], said.get("attention_mask"), config)
    if texts is None or not _may_skip(stack):
        return None
    _begin(texts)
    row = said["hidden_states"].flatten(0, 1).index_select(0, texts.places)[None]
    return (), {**said, "hidden_states": row, "attention_mask": texts}


def spoken(given: tuple[Any, ...], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a stack is called with, by name; None where that is more than states and a mask of padding, if any.

    Nor is it anything while `padding_computed` lasts: then states of tokens are read that the mask hides.
    """
    said = {**dict(zip(ARGUMENTS, given, strict=False)), **settings}
    others = [value for name, value in said.items() if name not in ARGUMENTS]
    plain = len(given) <= len(ARGUMENTS) and all(value is None or value is False for value in others)
    return said if plain and isinstance(said.get(ARGUMENTS[0]), Tensor) and not _left.get() else None


def shown_tokens(states: Tensor, mask: Any) -> Tensor | None:
    """Return which places are tokens, (texts, width); None where they do not all see all tokens of their text.

    states: (texts, width, …). mask: (texts, 1, width, width), true where a key is seen; None where all are. A text
    without tokens has none either.
    """
    if mask is None:
        return states.new_ones(states.shape[:2], dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.dim() != 4:
        return None
    is_token = mask[:, 0, 0]
    alike = torch.equal(mask, is_token[:, None, None].expand_as(mask))
    return is_token if alike and is_token.any(dim=1).all() else None


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


def _laid_out(states: Tensor, mask: Any, config: Any) -> _Texts | None:
    """Return how the tokens of a rectangle stand in a row; None where that gains nothing, or the mask is another.

    It gains nothing where there is next to no padding, but in bf16: attention is then ours, which is faster.

    states: (texts, width, …); mask: (texts, 1, width, width), true where a key is seen.
    """
    is_token = shown_tokens(states, mask) if states.device.type == "cpu" else None
    if is_token is None:
        return None
    lengths = is_token.sum(dim=1)
    if states.dtype != torch.bfloat16 and lengths.sum() > (1 - WORTH) * is_token.numel():
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


def _may_skip(stack: nn.Module) -> bool:
    """Tell whether a stack gives the same without padding; it is tried once."""
    if stack not in _exact:
        _exact[stack] = _is_exact(stack)
    return _exact[stack]


def _is_exact(stack: nn.Module) -> bool:
    def unpadded(states: Tensor, mask: Tensor) -> Tensor:
        _exact[stack] = True
        return run(stack, states, mask)

    _exact[stack] = False
    return gives_the_same(stack, unpadded)


def run(stack: Any, states: Tensor, mask: Tensor | None) -> Tensor:
    """Return what a stack makes of these states, of their shape."""
    found: Tensor = stack(hidden_states=states, attention_mask=mask).last_hidden_state
    return found


@torch.no_grad()
def gives_the_same(stack: nn.Module, other: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Tell whether another way to run a stack, from states and mask, has its outputs up to rounding, by trying both."""
    lengths, width = torch.tensor([5, 3, 2]), width_of(stack)
    weight = next(weight for weight in stack.parameters() if weight.is_floating_point())
    made = torch.Generator().manual_seed(0)
    states = torch.randn(len(lengths), 5, width, generator=made).to(weight.dtype)
    is_token = torch.arange(5) < lengths[:, None]
    mask = is_token[:, None, None].expand(-1, -1, 5, -1)
    try:
        with still(stack):
            plain, found = (way(states, mask)[is_token] for way in (partial(run, stack), other))
    except (TypeError, AttributeError, ValueError, NotImplementedError, RuntimeError):
        return False  # it does not hand our function through
    allowed = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((found - plain).abs().max() < allowed * plain.abs().max())
