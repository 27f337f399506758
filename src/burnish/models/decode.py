"""Writing in batches, the likeliest text or samples: what prompts share is read once, finished rows are dropped.

Encoder-decoders are written with by transformers' own `generate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import Cache, LogitsProcessorList

from burnish.models.layout import Branches, lay_out
from burnish.models.render import Prompt, prompt_ids
from burnish.models.room import is_roomy, lay_rows, order_kept, roomy_cache
from burnish.models.segments import is_packed, logits_at

ROWS_A_PASS = 32

Choose = Callable[[Tensor, Sequence[int]], Tensor]  # (rows, vocabulary) logits, which rows: a token for each


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn.

    The draws of a text depend on the seed, the key of its prompt and the text's number alone, so that other prompts of
    a pass change nothing but the rounding of the probabilities.
    temperature: logits are divided by it. top_p: share of the probability that the likeliest tokens have together, to
    which the others are dropped (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751); 1 drops none.
    """

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that was drawn: its tokens, the end token included where it was written.

    logps: ln of each token's probability by the model itself, at temperature 1 and with no token dropped.
    """

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    ended: bool  # or else it was cut at the number of tokens allowed


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    keys: Sequence[int],
    count: int,
    sampling: Sampling,
    end: int,
    pad: int,
    max_new_tokens: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[Sample]]:
    """Draw `count` texts after each prompt, which is read once for all of them; an encoder reads it for each.

    prompts, pad: as in `write`. keys: name the prompts to the draws. done: called with the number of finished prompts.
    """
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    drawn: list[list[Sample]] = [[] for _ in prompts]
    size = max(1, ROWS_A_PASS // count)
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        draws = _Draws(sampling, [(keys[row], number) for row in rows for number in range(count)], max_new_tokens)
        ids = [list(prompts[row]) for row in rows]
        if model.config.is_encoder_decoder:
            texts = _generate(model, ids, end=end, pad=pad, max_new_tokens=max_new_tokens, draws=draws, copies=count)
        else:
            texts = _write_pass(model, ids, end=end, max_new_tokens=max_new_tokens, choose=draws, copies=count)
        for place, row in enumerate(rows):
            mine = range(place * count, (place + 1) * count)
            drawn[row] = [draws.sample(number, texts[number], end) for number in mine]
        done(first + len(rows))
    return drawn


class _Draws:
    """Draws each row's next token by a number of its own, and remembers how likely it was."""

    def __init__(self, sampling: Sampling, rows: Sequence[tuple[int, int]], tokens: int) -> None:
        """Take the numbers of all tokens; rows: the prompt's key and the text's number."""
        self._sampling = sampling
        self._numbers = torch.stack([_numbers(sampling.seed, key, number, tokens) for key, number in rows])
        self._logps: list[list[float]] = [[] for _ in rows]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Return (rows,) tokens, each where its number falls in the row's cumulative probabilities."""
        logps = logits.float().log_softmax(dim=-1)
        settings = self._sampling
        chances = logps.exp() if settings.temperature == 1 else (logps / settings.temperature).softmax(dim=-1)
        if settings.top_p < 1:
            chances = _nucleus(chances, settings.top_p)
        sums = chances.cumsum(dim=-1, dtype=torch.float64)
        step = [len(self._logps[row]) for row in rows]
        numbers = self._numbers[list(rows), step].to(sums.device)
        chosen = torch.searchsorted(sums, (numbers * sums[:, -1])[:, None], right=True)[:, 0]
        for row, logp in zip(rows, logps.gather(1, chosen[:, None])[:, 0].tolist(), strict=True):
            self._logps[row].append(logp)
        return chosen

    def sample(self, row: int, text: list[int], end: int) -> Sample:
        """Return the text that was written for a row; text: without its end."""
        logps = self._logps[row][: len(text) + 1]
        ended = len(logps) > len(text)
        return Sample((*text, *[end] * ended), tuple(logps), ended)


def _numbers(seed: int, key: int, number: int, tokens: int) -> Tensor:
    """Return (tokens,) numbers in [0, 1)."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64([seed, key, number])).random(tokens))


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Return the probabilities with all but the likeliest tokens dropped, fewest that have `top_p` together."""
    ordered, places = chances.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    return torch.zeros_like(chances).scatter(-1, places, ordered.masked_fill(before >= top_p, 0.0))


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
        found = _generate(model, [prompts[row] for row in rows], end=end, pad=pad, max_new_tokens=max_new_tokens)
        for row, tokens in zip(rows, found, strict=True):
            written[row] = tokens
        done(first + len(rows))
    return written


def answers_to(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Return the likeliest text after each prompt, a chat or plain, as `read_back` gives it."""
    written = write(
        model,
        prompt_ids(prompts, tokenizer, apart=model.config.is_encoder_decoder),
        end=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=max_new_tokens,
        done=done,
    )
    return read_back(tokenizer, written)


def read_back(tokenizer: Any, written: Sequence[Sequence[int]]) -> list[str]:
    """Return written tokens as texts, without special tokens and without white space around them."""
    return [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]


@torch.inference_mode()
def _generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    pad: int,
    max_new_tokens: int,
    draws: Choose | None = None,
    copies: int = 1,
) -> list[list[int]]:
    """Write by transformers' `generate`, `copies` texts for each prompt; draws: what chooses, if not the likeliest."""
    ids, mask = _padded([prompt for prompt in prompts for _ in range(copies)], pad)

    def chosen(_: Tensor, logits: Tensor) -> Tensor:
        assert draws is not None
        tokens = draws(logits, range(len(logits)))
        return torch.full_like(logits, -torch.inf).scatter(1, tokens[:, None], 0.0)

    found = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=end,
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([chosen] if draws else []),
    )
    texts = found[:, 1:].tolist()  # behind the start token
    return [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in texts]


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
        ids = [list(prompts[row]) for row in rows]
        texts = _write_pass(model, ids, end=end, max_new_tokens=max_new_tokens, choose=_likeliest, copies=1)
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


def _likeliest(logits: Tensor, _: Sequence[int]) -> Tensor:
    """Return (rows,) tokens."""
    return logits.argmax(dim=-1)


@torch.inference_mode()
def _write_pass(
    model: Any, prompts: list[list[int]], *, end: int, max_new_tokens: int, choose: Choose, copies: int
) -> list[list[int]]:
    """Write for one batch of prompts, `copies` texts each, one behind the other."""
    network, cache, soft = _begun(model, max_new_tokens)
    packed = not soft and is_roomy(cache) and is_packed(network)
    logits, mask = _read_packed(network, prompts, cache) if packed else _read_padded(network, prompts, cache, soft)
    return _continue(network, logits, mask, cache, end=end, max_new_tokens=max_new_tokens, choose=choose, copies=copies)


def _read_packed(network: Any, prompts: list[list[int]], cache: Any) -> tuple[Tensor, Tensor]:
    """Read the prompts in one row without padding, what they share once; then give each a row of the cache.

    Returns (prompts, vocabulary) logits at their ends, and the (prompts, width) mask of what is in the cache, which is
    padded on the left.
    """
    shared = shared_start(prompts)
    owns = [prompt[shared:] for prompt in prompts]
    rows: list[Branches] = [(prompts[0][:shared], owns)] if shared else [(own, ()) for own in owns]
    segments, _ = lay_out(rows)
    stops = shared + torch.tensor([len(own) for own in owns]).cumsum(dim=0)

    def keep(_: Any, inputs: Any, settings: dict[str, Any]) -> Any:
        return inputs, {**settings, "cache": cache, "use_cache": True}

    handle = network.get_decoder().register_forward_pre_hook(keep, with_kwargs=True)
    try:
        logits = logits_at(network, segments, stops - 1)
    finally:
        handle.remove()
    width = max(map(len, owns))
    places = torch.zeros(len(prompts), shared + width, dtype=torch.long)  # what stands for padding is never seen
    mask = torch.zeros_like(places)
    for row, (own, stop) in enumerate(zip(owns, stops.tolist(), strict=True)):
        count = len(own)
        places[row, width - count :] = torch.cat([torch.arange(shared), torch.arange(stop - count, stop)])
        mask[row, width - count :] = 1
    lay_rows(cache, places.to(logits.device))
    return logits, mask.to(logits.device)


def _read_padded(network: Any, prompts: list[list[int]], cache: Any, soft: int) -> tuple[Tensor, Tensor]:
    """Read the prompts as a rectangle, behind `soft` tokens that the cache has; returns what `_read_packed` does."""
    device = network.device
    shared = shared_start(prompts)
    width = max(map(len, prompts)) - shared
    own = torch.zeros(len(prompts), width, dtype=torch.long)
    own_mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own[row, width - len(prompt) + shared :] = torch.tensor(prompt[shared:])
        own_mask[row, width - len(prompt) + shared :] = 1
    if shared:
        network(input_ids=torch.tensor([prompts[0][:shared]], device=device), cache=cache, logits_to_keep=1)
    if soft + shared:
        cache.batch_repeat_interleave(len(prompts))
    mask = torch.cat([torch.ones(len(prompts), soft + shared, dtype=torch.long), own_mask], dim=1).to(device)
    return _logits(network, own.to(device), mask, cache), mask


def _logits(network: Any, tokens: Tensor, mask: Tensor, cache: Any) -> Tensor:
    """Return (rows, vocabulary): the logits behind the last of these tokens; mask: of all that was read."""
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    out = network(input_ids=tokens, attention_mask=mask, position_ids=positions, cache=cache, logits_to_keep=1)
    logits: Tensor = out.logits[:, -1]
    return logits


def _begun(model: Any, tokens: int) -> tuple[Any, Any, int]:
    """Return the network, a cache of one row that a prefix or soft tokens have filled, and how many tokens they are.

    tokens: that will be written.

    PEFT 0.21 loses them after the first written tokens under transformers 5.24, which calls the cache by a new name.
    """
    network: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if network is model or not model.active_peft_config.is_prompt_learning:
        return network, roomy_cache(network.config, tokens=tokens), 0
    soft, before = int(model.active_peft_config.num_virtual_tokens), model.get_prompt(1)
    if isinstance(before, Cache):
        return network, before, soft
    cache = roomy_cache(network.config, tokens=tokens)
    network.get_decoder()(inputs_embeds=before.to(network.dtype), cache=cache, use_cache=True)
    return network, cache, soft


def _continue(
    network: Any,
    logits: Tensor,
    mask: Tensor,
    cache: Any,
    *,
    end: int,
    max_new_tokens: int,
    choose: Choose,
    copies: int,
) -> list[list[int]]:
    """Write token by token behind what was read, until every row has ended or is full.

    logits: (prompts, vocabulary), at their ends; mask: (prompts, width), of what is in the cache. The first tokens of a
    prompt's texts are chosen from the same logits.
    """
    if copies > 1:
        cache.batch_repeat_interleave(copies)
        mask, logits = mask.repeat_interleave(copies, dim=0), logits.repeat_interleave(copies, dim=0)
    texts: list[list[int]] = [[] for _ in logits]
    open_rows = list(range(len(texts)))
    for step in range(1, max_new_tokens + 1):
        chosen = choose(logits, open_rows)
        kept = [place for place, token in enumerate(chosen.tolist()) if token != end]
        for place in kept:
            texts[open_rows[place]].append(int(chosen[place]))
        if not kept or step == max_new_tokens:
            break
        if len(kept) < len(open_rows):
            kept = order_kept(kept)
            index = torch.tensor(kept, device=chosen.device)
            cache.batch_select_indices(index)
            chosen, mask = chosen[index], mask[index]
            open_rows = [open_rows[place] for place in kept]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits = _logits(network, chosen[:, None], mask, cache)
    return texts
