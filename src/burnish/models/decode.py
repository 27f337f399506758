"""Greedy writing in batches: sorted by length, what all prompts share read once, finished rows dropped.

Encoder-decoders are written with by transformers' own `generate`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Cache, DynamicCache

ROWS_A_PASS = 32


@torch.inference_mode()
def write(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    pad: int,
    max_new_tokens: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """Return the tokens that a model of any kind writes after each prompt, without the end token.

    prompts: token ids, none empty; of an encoder-decoder, what the encoder reads. pad: for what is padded.
    """
    if not model.config.is_encoder_decoder:
        return write_greedily(model, prompts, end=end, max_new_tokens=max_new_tokens, done=done)
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    written: list[list[int]] = [[] for _ in prompts]
    for first in range(0, len(order), ROWS_A_PASS):
        rows = order[first : first + ROWS_A_PASS]
        ids, mask = _padded([prompts[row] for row in rows], pad)
        found = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=pad,
        )
        for row, tokens in zip(rows, found[:, 1:].tolist(), strict=True):  # behind the start token
            written[row] = tokens[: tokens.index(end)] if end in tokens else tokens
        done(first + len(rows))
    return written


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return (rows, width) ids and mask, padded on the right."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask


@torch.inference_mode()
def write_greedily(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    max_new_tokens: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """Return the tokens that the model writes after each prompt, without the end token.

    prompts: token ids, none empty. The tokens that all prompts of a pass begin with are read once.
    done: called with the number of finished prompts after each pass.
    """
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    written: list[list[int]] = [[] for _ in prompts]
    for first in range(0, len(order), ROWS_A_PASS):
        rows = order[first : first + ROWS_A_PASS]
        texts = _write_pass(model, [list(prompts[row]) for row in rows], end=end, max_new_tokens=max_new_tokens)
        for row, text in zip(rows, texts, strict=True):
            written[row] = text
        done(first + len(rows))
    return written


def shared_start(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with, leaving each at least one token of its own."""
    shortest, longest = (
        min(map(tuple, prompts)),
        max(map(tuple, prompts)),
    )  # lexicographic: what these two share, all share
    limit = min(len(prompt) for prompt in prompts) - 1
    for place in range(limit):
        if shortest[place] != longest[place]:
            return place
    return limit


def _write_pass(model: Any, prompts: list[list[int]], *, end: int, max_new_tokens: int) -> list[list[int]]:
    """Write for one batch of prompts."""
    device = model.device
    model, cache, soft = _begun(model)
    shared = shared_start(prompts)
    width = max(map(len, prompts)) - shared
    own = torch.zeros(len(prompts), width, dtype=torch.long)
    own_mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own[row, width - len(prompt) + shared :] = torch.tensor(prompt[shared:])
        own_mask[row, width - len(prompt) + shared :] = 1
    if shared:
        model(input_ids=torch.tensor([prompts[0][:shared]], device=device), cache=cache, logits_to_keep=1)
    if soft + shared:
        cache.batch_repeat_interleave(len(prompts))
    mask = torch.cat([torch.ones(len(prompts), soft + shared, dtype=torch.long), own_mask], dim=1).to(device)
    return _continue(model, own.to(device), mask, cache, end=end, max_new_tokens=max_new_tokens)


def _begun(model: Any) -> tuple[Any, Any, int]:
    """Return the network, a cache of one row that a prefix or soft tokens have filled, and how many tokens they are.

    PEFT 0.21 loses them after the first written tokens under transformers 5.24, which calls the cache by a new name.
    """
    network: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if network is model or not model.active_peft_config.is_prompt_learning:
        return network, DynamicCache(config=network.config), 0
    soft, before = int(model.active_peft_config.num_virtual_tokens), model.get_prompt(1)
    if isinstance(before, Cache):
        return network, before, soft
    cache = DynamicCache(config=network.config)
    network.get_decoder()(inputs_embeds=before.to(network.dtype), cache=cache, use_cache=True)
    return network, cache, soft


def _continue(
    model: Any, tokens: Tensor, mask: Tensor, cache: Any, *, end: int, max_new_tokens: int
) -> list[list[int]]:
    """Read the prompts' own tokens, then write token by token until every row has ended or is full.

    tokens: (rows, width), padded on the left; mask: (rows, shared + width).
    """
    texts: list[list[int]] = [[] for _ in range(len(tokens))]
    open_rows = list(range(len(tokens)))
    for _ in range(max_new_tokens):
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            logits_to_keep=1,
        )
        chosen = out.logits[:, -1].argmax(dim=-1)
        kept = [place for place, token in enumerate(chosen.tolist()) if token != end]
        for place in kept:
            texts[open_rows[place]].append(int(chosen[place]))
        if not kept:
            break
        if len(kept) < len(open_rows):
            index = torch.tensor(kept, device=tokens.device)
            cache.batch_select_indices(index)
            chosen, mask = chosen[index], mask[index]
            open_rows = [open_rows[place] for place in kept]
        tokens = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return texts
