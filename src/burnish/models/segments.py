"""A causal model that reads several texts in one row: attention is cut where one ends, or branches.

It is computed by torch's SDPA, piece by piece, so that this needs no kernel of its own and no mask as wide as the row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function

from burnish.models.dropout import still
from burnish.models.grouped import attend, suits
from burnish.models.layout import Piece, Segments, lay_out

BUNDLE = (
    128  # tokens of short texts behind the same tokens that are read by one product: few, for it also reads in vain
)
NAME = "sdpa_in_segments"  # of our attention function, as transformers knows it

_laid: ContextVar[tuple[Any, Segments]] = ContextVar("laid")  # the network that runs, and what it was called with
_exact: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # networks that have been tried
_plain: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # the same of their LM heads


def logits_at(model: nn.Module, segments: Segments, places: Tensor) -> Tensor:
    """Return (places, vocabulary): a causal model's logits at these places of the row, which its LM head alone sees.

    What a network does to its logits beside the head (a scale, a soft cap) is done.
    """
    return _read(model, segments, places, headless=False)[1]


def states_at(model: nn.Module, segments: Segments, places: Tensor) -> Tensor:
    """Return (places, width): what a causal model's LM head would see at these places of the row."""
    return _read(model, segments, places, headless=True)[0]


def _read(model: nn.Module, segments: Segments, places: Tensor, *, headless: bool) -> tuple[Tensor, Tensor]:
    """Return the hidden states at these places, and their logits; headless: of one place, which is next to no work."""
    with _laid_out(model, segments) as (network, inputs, where):
        wanted = where[places]
        states = []

        def keep(_: nn.Module, __: tuple[Any, ...], out: Any) -> Any:
            hidden = out.last_hidden_state.flatten(0, 1)
            states.append(hidden[wanted.to(hidden.device)])
            out.last_hidden_state = states[0][None, :1] if headless else states[0][None]
            return out

        handle = network.get_decoder().register_forward_hook(keep)
        try:
            logits: Tensor = network(**inputs, use_cache=False).logits[0]
        finally:
            handle.remove()
        return states[0], logits


def plain_head(model: nn.Module) -> Tensor | None:
    """Return (vocabulary, width), by which a causal model's logits are the product of its hidden states alone.

    None where its LM head is another kind of layer, or the network does something more to its logits, which is tried
    once.
    """
    outer: Any = model
    network: Any = outer.get_base_model() if isinstance(model, PeftModel) else outer
    head = network.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return None
    if network not in _plain:
        _plain[network] = _is_plain(network, head)
    weight: Tensor | None = head.weight if _plain[network] else None
    return weight


@torch.no_grad()
def _is_plain(network: Any, head: nn.Linear) -> bool:
    """Tell whether a network's logits are what its LM head makes of its hidden states, to the last digit."""
    ids = torch.tensor([[1, 2, 3, 5]], device=head.weight.device) % len(head.weight)
    found: list[Tensor] = []
    handle = network.get_decoder().register_forward_hook(lambda _, __, out: found.append(out.last_hidden_state))
    try:
        with still(network):
            logits = network(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    return torch.equal(logits, head(found[0]))


@contextmanager
def _laid_out(model: nn.Module, segments: Segments) -> Iterator[tuple[Any, dict[str, Any], Tensor]]:
    """Yield the network, what it is to be called with, and at which of its places, counted on, the row's tokens stand.

    In one row where the network can; else in a rectangle that holds shared tokens again for each branch. Soft tokens
    and prefixes need the latter.
    """
    outer: Any = model
    network: Any = outer.get_base_model() if isinstance(model, PeftModel) else outer
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    device = next(network.parameters()).device
    if not soft and can_cut(network):
        with _cut(network, segments):
            yield network, _row(segments, device), torch.arange(len(segments.ids))
        return
    ids, mask, where = segments.padded
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    if soft:
        inputs = _behind_soft_tokens(outer, **inputs)
        if "inputs_embeds" in inputs:
            where = where + (where // ids.shape[1] + 1) * (inputs["inputs_embeds"].shape[1] - ids.shape[1])
    yield network, inputs, where


def is_packed(model: nn.Module) -> bool:
    """Tell whether a model reads several texts in one row, so that no token is padding."""
    outer: Any = model
    network: Any = outer.get_base_model() if isinstance(model, PeftModel) else outer
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    return not soft and not network.config.is_encoder_decoder and can_cut(network)


def can_cut(network: Any) -> bool:
    """Tell whether a network's row can be cut into texts that know nothing of each other, by trying it once.

    Its attention must be computed by transformers' SDPA function, which takes ours instead. Networks that also carry
    something from token to token beside attention, or that count tokens in another way, show it when they are tried.
    """
    decoder = network.get_decoder()
    if decoder.config._attn_implementation != "sdpa" or "position_ids" not in signature(decoder.forward).parameters:
        return False
    if network not in _exact:
        _exact[network] = network._can_set_attn_implementation() and _is_exact(network)
    return _exact[network]


@torch.no_grad()
def _is_exact(network: Any) -> bool:
    """Tell whether texts come out as they do alone, whatever stands before them in the row."""
    words = network.config.get_text_config().vocab_size
    first, second, third, other = ([t % words for t in ids] for ids in ((1, 2, 3), (5, 4, 3, 2), (7, 6), (9, 8, 5)))
    rows = [lay_out([(before, [second, third]), (third, [first])])[0] for before in (first, other)]
    rows = [replace(row, by_torch=True) for row in rows]  # in bf16 another order of sums is another number
    device = next(network.parameters()).device
    decoder, found = network.get_decoder(), []
    try:
        with still(network):
            for row in rows:
                with _cut(network, row):
                    found.append(decoder(**_row(row, device), use_cache=False).last_hidden_state[0])
            ids, mask, places = (part.to(device) for part in rows[0].padded)
            alone = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.flatten(0, 1)[places]
    except (TypeError, AttributeError, ValueError, NotImplementedError, RuntimeError):
        return False  # it does not hand our function through
    own = len(third) + len(first)
    gap, seen = (found[0] - alone).abs().max(), (found[0] - found[1])[-own:].abs().max()
    exact, size = alone.dtype in (torch.float32, torch.float64), alone.abs().max()
    return bool(gap < (1e-4 if exact else 5e-2) * size) and bool(seen < (1e-6 if exact else 1e-3) * size)


def _row(segments: Segments, device: torch.device) -> dict[str, Any]:
    """Return what a network is called with; the mask lets every layer ask for one of its own kind."""
    ids = segments.ids[None].to(device)
    positions = segments.positions[None].to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions}


def _behind_soft_tokens(model: Any, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
    """Return what a network is called with: the tokens, behind a prefix or soft tokens that PEFT has added."""
    before = model.get_prompt(len(input_ids))
    ones = attention_mask.new_ones(len(input_ids), model.active_peft_config.num_virtual_tokens)
    mask = torch.cat([ones, attention_mask], dim=1)
    if isinstance(before, Cache):
        return {"input_ids": input_ids, "attention_mask": mask, "cache": before}
    return {"inputs_embeds": torch.cat([before, model.word_embeddings(input_ids)], dim=1), "attention_mask": mask}


@contextmanager
def _cut(network: Any, segments: Segments) -> Iterator[None]:
    """Let a network's layers compute attention in these segments while this lasts."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _cuts)
    config = network.get_decoder().config
    own, token = config._attn_implementation, _laid.set((network, segments))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _laid.reset(token)


def cut_again() -> Callable[[], AbstractContextManager[None]]:
    """Return what lets attention be cut later as it is now: for layers that are computed again."""
    found = _laid.get(None)
    return nullcontext if found is None else partial(_cut, *found)


@dataclass(frozen=True, slots=True)
class _Group:
    """Pieces that are read by one product: `count` of one length, or a bundle of short ones, for which that is 1.

    tokens: of each, or of the bundle. mask: (1, 1, tokens, seen + tokens), or None where order alone hides. trunks:
    where they find what they go on from: in which groups, from which token on, and how many tokens.
    """

    tokens: int
    count: int
    mask: Tensor | None
    trunks: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Cuts:
    """What stands in a mask's place."""

    groups: tuple[_Group, ...]

    @property
    def sizes(self) -> list[int]:
        """Tokens of each group."""
        return [group.tokens * group.count for group in self.groups]


def _cuts(*, mask_function: Callable[..., Any], device: torch.device, use_vmap: bool = False, **_: Any) -> _Cuts:
    """Return the pieces with the masks that a layer's kind asks for: a window, for example.

    mask_function: of (row, head, place of the query, place of the key), as transformers gives it; texts are asked
    about as if each stood alone.

    Raises:
        NotImplementedError: it tells apart more than places.
    """
    if use_vmap:
        raise NotImplementedError("a mask that looks at more than places")
    _, segments = _laid.get()
    order = torch.ones(segments.longest, segments.longest, dtype=torch.bool, device=device).tril()
    seen = order
    if mask_function is not causal_mask_function:
        places, none = torch.arange(segments.longest, device=device), torch.zeros(1, 1, 1, 1, dtype=torch.long)
        seen = mask_function(none.to(device), none.to(device), places[None, None, :, None], places[None, None, None])
        seen = seen.expand(1, 1, *order.shape)[0, 0]
    groups: list[_Group] = []
    found: dict[int, tuple[int, int]] = {}  # a piece's first token → its group, and where in it
    for pieces in _runs(segments.pieces):
        found |= {piece.start: (len(groups), piece.start - pieces[0].start) for piece in pieces}
        trunks = tuple((*found[start], count) for start, count in pieces[0].sees)
        if _is_bundle(pieces):
            diagonal: Any = torch.block_diag
            mask = diagonal(
                *(seen[piece.seen : piece.seen + piece.own, piece.seen :][:, : piece.own] for piece in pieces)
            )
            before = torch.cat([seen[piece.seen : piece.seen + piece.own, : piece.seen] for piece in pieces])
            whole = torch.cat([before, mask.bool()], dim=1)[None, None]
            groups.append(_Group(len(mask), 1, whole, trunks))
            continue
        piece = pieces[0]
        size = piece.seen + piece.own
        by_order = not piece.seen and (seen is order or torch.equal(seen[:size, :size], order[:size, :size]))
        groups.append(
            _Group(piece.own, len(pieces), None if by_order else seen[None, None, piece.seen : size, :size], trunks)
        )
    return _Cuts(tuple(groups))


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Return runs of pieces that see the same and are read together: short ones, or those of one length.

    A long one that others go on from stands alone: the gradient of each slice of it is as large as all of its run.
    """
    branching = {start for piece in pieces for start, _ in piece.sees}
    runs: list[list[Piece]] = []
    for piece in pieces:
        last = runs[-1] if runs else []
        fits = bool(last) and last[0].sees == piece.sees
        if fits and (_is_bundle([*last, piece]) or _is_alike([*last, piece], branching)):
            last.append(piece)
        else:
            runs.append([piece])
    return runs


def _is_bundle(pieces: Sequence[Piece]) -> bool:
    """Tell whether pieces are few and short, and go on from the same tokens."""
    return bool(pieces[0].sees) and len(pieces) > 1 and pieces[-1].end - pieces[0].start <= BUNDLE


def _is_alike(pieces: Sequence[Piece], branching: set[int]) -> bool:
    """Tell whether all pieces have one length, and no other goes on from one of them."""
    first, *others = pieces
    return (
        first.own * len(pieces) == pieces[-1].end - first.start
        and all(piece.own == first.own for piece in others)
        and not any(piece.start in branching for piece in pieces)
    )


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: _Cuts, **settings: Any
) -> tuple[Tensor, None]:
    """Return (1, tokens, heads, width), each group's by transformers' SDPA function, or by ours where it is faster.

    query, key, value: (1, heads, tokens, width). They are split once: the gradient of a slice is as large as what it
    was cut from, so that as many slices as texts would cost more than attention.

    Raises:
        NotImplementedError: the network adds something to what attention computes that is not cut.
    """
    if settings.get("position_bias") is not None or not isinstance(attention_mask, _Cuts):
        raise NotImplementedError("an attention that adds a bias for the distance, or makes its own mask")
    settings.pop("is_causal", None)
    queries, keys, values = (torch.split(part, attention_mask.sizes, dim=2) for part in (query, key, value))
    found = []
    for place, group in enumerate(attention_mask.groups):
        own, k, v = (_each(parts[place], group.count) for parts in (queries, keys, values))
        if group.trunks:
            k, v = (
                torch.cat([*(_part(parts, trunk, group.count) for trunk in group.trunks), behind], dim=2)
                for parts, behind in ((keys, k), (values, v))
            )
        if not _laid.get()[1].by_torch and suits(own, k, settings):
            out = attend(own, k, v, group.mask, settings.get("scaling"))
        else:
            out, _ = sdpa_attention_forward(module, own, k, v, group.mask, is_causal=True, **settings)
        found.append(out.flatten(0, 1))
    return torch.cat(found)[None], None


def _part(parts: Sequence[Tensor], trunk: tuple[int, int, int], count: int) -> Tensor:
    """Return (pieces, heads, tokens, width): the tokens that a trunk names, for each of so many pieces."""
    group, start, tokens = trunk
    return parts[group][:, :, start : start + tokens].expand(count, -1, -1, -1)


def _each(part: Tensor, count: int) -> Tensor:
    """Return (pieces, heads, tokens, width) of (1, heads, all their tokens, width)."""
    _, heads, tokens, width = part.shape
    return part.view(heads, count, tokens // count, width).transpose(0, 1)
