"""Several texts in one row without padding: positions start anew in each, and attention is cut where one ends.

A text may branch: the tokens that its branches share stand in the row once, and no branch sees another. Attention is
computed by torch's SDPA, piece by piece, so that this needs no kernel of its own and no mask as wide as the row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function

from burnish.models.padding import pad_right

NAME = "sdpa_in_segments"  # of our attention function, as transformers knows it

Branches: TypeAlias = tuple[
    Sequence[int], Sequence[Sequence[int]]
]  # token ids, and those of texts that go on from them

_laid: ContextVar["Segments"] = ContextVar("laid")  # what the pass that runs was called with
_exact: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # networks that have been tried


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens `start` to `end` of the row, which also see the tokens from `before` on, `seen` of them, and no others."""

    start: int
    end: int
    before: int
    seen: int

    @property
    def own(self) -> int:
        """Tokens of its own."""
        return self.end - self.start


@dataclass(frozen=True)
class Segments:
    """Texts laid out in one row, (tokens,) ids and each token's place in its text.

    A piece is a text from its beginning, or a branch that goes on from a text's first tokens. pieces: in the row's
    order; together they are the row.
    """

    ids: Tensor
    positions: Tensor
    pieces: tuple[Piece, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(piece.seen + piece.own for piece in self.pieces)

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """The texts as a rectangle, each with what it branches from: ids, mask, and where the row's tokens stand in it.

        ids, mask: (pieces, width). The last: (tokens,) places in the flattened rectangle.
        """
        found = self.ids.tolist()
        texts = [found[p.before : p.before + p.seen] + found[p.start : p.end] for p in self.pieces]
        ids, mask = pad_right(texts)
        width = ids.shape[1]
        places = [row * width + p.seen + step for row, p in enumerate(self.pieces) for step in range(p.own)]
        return ids, mask, torch.tensor(places)


def lay_out(rows: Sequence[Branches]) -> tuple[Segments, list[list[range]]]:
    """Return the row that holds these texts, and where the tokens of each one's branches stand in it.

    rows: what comes first, not empty, and its branches, of which any may be empty. The first branch goes on in the
    piece that the shared tokens are in: what it sees is all that stands before it.
    """
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[Piece] = []
    places: list[list[range]] = []
    for shared, branches in rows:
        start, places_here = len(ids), []
        ids += shared
        for number, branch in enumerate(branches):
            first = len(ids)
            ids += branch
            places_here.append(range(first, len(ids)))
            if number and branch:
                pieces.append(Piece(first, len(ids), start, len(shared)))
            elif not number:
                pieces.append(Piece(start, len(ids), start, 0))
        if not branches:
            pieces.append(Piece(start, len(ids), start, 0))
        places.append(places_here)
    for piece in pieces:
        positions += range(piece.seen, piece.seen + piece.own)
    return Segments(torch.tensor(ids), torch.tensor(positions), tuple(pieces)), places


def hidden_states(model: nn.Module, segments: Segments) -> Tensor:
    """Return (tokens, width): what a causal model's layers make of each of the row's tokens, without its LM head.

    In one row where the network can; else in a rectangle that holds shared tokens again for each branch. Soft tokens
    and prefixes need the latter.
    """
    outer: Any = model
    network: Any = outer.get_base_model() if isinstance(model, PeftModel) else outer
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    if not soft and can_cut(network):
        return _in_one_row(network, segments)
    device = next(network.parameters()).device
    ids, mask, places = (part.to(device) for part in segments.padded)
    inputs = _behind_soft_tokens(outer, ids, mask) if soft else {"input_ids": ids, "attention_mask": mask}
    hidden: Tensor = network.get_decoder()(**inputs, use_cache=False).last_hidden_state
    return hidden[:, -ids.shape[1] :].flatten(0, 1)[places]  # without what soft tokens left


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
    size = network.config.get_text_config().vocab_size
    first, second, third, other = ([t % size for t in ids] for ids in ((1, 2, 3), (5, 4, 3, 2), (7, 6), (9, 8, 5)))
    row, _ = lay_out([(first, [second, third]), (third, [first])])
    behind, _ = lay_out([(other, [second, third]), (third, [first])])
    own = len(third) + len(first)
    training = network.training
    network.eval()
    try:
        found, again = _in_one_row(network, row), _in_one_row(network, behind)
        ids, mask, places = (part.to(found.device) for part in row.padded)
        alone = network.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    except (TypeError, AttributeError, ValueError, NotImplementedError, RuntimeError):
        return False  # it does not hand our function through
    finally:
        network.train(training)
    size = alone.abs().max()
    gap, seen = (found - alone.flatten(0, 1)[places]).abs().max() / size, (found - again)[-own:].abs().max() / size
    exact = found.dtype in (torch.float32, torch.float64)
    return bool(gap < (1e-4 if exact else 5e-2)) and bool(seen < (1e-6 if exact else 1e-3))


def _in_one_row(network: Any, segments: Segments) -> Tensor:
    decoder = network.get_decoder()
    device = next(network.parameters()).device
    ids, positions = segments.ids[None].to(device), segments.positions[None].to(device)
    with _cut(decoder.config, segments):
        out = decoder(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def _behind_soft_tokens(model: Any, ids: Tensor, mask: Tensor) -> dict[str, Any]:
    """Return what the decoder is called with: the tokens, behind a prefix or soft tokens that PEFT has added.

    PEFT puts these into calls of the whole model, whose LM head would see every position.
    """
    before = model.get_prompt(len(ids))
    mask = torch.cat([mask.new_ones(len(ids), model.active_peft_config.num_virtual_tokens), mask], dim=1)
    if isinstance(before, Cache):
        return {"input_ids": ids, "attention_mask": mask, "cache": before}
    return {"inputs_embeds": torch.cat([before, model.word_embeddings(ids)], dim=1), "attention_mask": mask}


@contextmanager
def _cut(config: Any, segments: Segments) -> Iterator[None]:
    """Let networks of this config compute attention in these segments while this lasts."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _cuts)
    own, token = config._attn_implementation, _laid.set(segments)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _laid.reset(token)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """What stands in a mask's place: the pieces, each with its own mask, or None where order alone hides."""

    pieces: tuple[tuple[Piece, Tensor | None], ...]


def _cuts(*, mask_function: Callable[..., Any], device: torch.device, use_vmap: bool = False, **_: Any) -> _Cuts:
    """Return the pieces with the masks that a layer's kind asks for: a window, for example.

    mask_function: of (row, head, place of the query, place of the key), as transformers gives it; texts are asked
    about as if each stood alone.

    Raises:
        NotImplementedError: it tells apart more than places.
    """
    if use_vmap:
        raise NotImplementedError("a mask that looks at more than places")
    segments = _laid.get()
    order = torch.ones(segments.longest, segments.longest, dtype=torch.bool, device=device).tril()
    seen = order
    if mask_function is not causal_mask_function:
        places, none = torch.arange(segments.longest, device=device), torch.zeros(1, 1, 1, 1, dtype=torch.long)
        seen = mask_function(none.to(device), none.to(device), places[None, None, :, None], places[None, None, None])
        seen = seen.expand(1, 1, *order.shape)[0, 0]
    pieces: list[tuple[Piece, Tensor | None]] = []
    for piece in segments.pieces:
        size = piece.seen + piece.own
        by_order = not piece.seen and (seen is order or torch.equal(seen[:size, :size], order[:size, :size]))
        pieces.append((piece, None if by_order else seen[None, None, piece.seen : size, :size]))
    return _Cuts(tuple(pieces))


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: _Cuts, **settings: Any
) -> tuple[Tensor, None]:
    """Return (1, tokens, heads, width), each piece's by transformers' SDPA function.

    query, key, value: (1, heads, tokens, width).

    Raises:
        NotImplementedError: the network adds something to what attention computes that is not cut.
    """
    if settings.get("position_bias") is not None or not isinstance(attention_mask, _Cuts):
        raise NotImplementedError("an attention that adds a bias for the distance, or makes its own mask")
    settings.pop("is_causal", None)
    found = []
    for piece, mask in attention_mask.pieces:
        keys, values = key[:, :, piece.start : piece.end], value[:, :, piece.start : piece.end]
        if piece.seen:
            shared = slice(piece.before, piece.before + piece.seen)
            keys, values = (torch.cat([part[:, :, shared], own], 2) for part, own in ((key, keys), (value, values)))
        queries = query[:, :, piece.start : piece.end]
        out, _ = sdpa_attention_forward(module, queries, keys, values, mask, is_causal=True, **settings)
        found.append(out)
    return torch.cat(found, dim=1), None
