"""How a model was pre-trained, which is how it reads on: what it guesses, and the tokens it needs for that."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from burnish.errors import ModelError
from burnish.models.adapted import base_of
from burnish.models.corrupt import span_counts
from burnish.models.dropout import still
from burnish.models.load import resolve
from burnish.models.quiet import quiet
from burnish.models.safety import read_settings, transformer_folder

Kind: TypeAlias = Literal["causal", "masked", "spans"]

SENTINEL = "<extra_id_{}>"  # as T5 and those after it call them
_SAMPLE = "a"  # any text with a token


@dataclass(frozen=True, slots=True)
class Reading:
    """How a model reads.

    causal: each token is told from those before it. masked: hidden tokens are told from those around them. spans: an
    encoder-decoder writes what was left out.
    prefix, suffix: what the tokenizer puts around a text. end: closes a document. apart: whether a causal model's
    scores are those of its head alone, so that body and head may be called one after the other. mask: stands for a
    hidden token. special: ids that are never hidden. words: ids that may stand in for a hidden one. sentinels: ids that
    stand for what was left out, in their order. start: what the decoder begins with.
    """

    kind: Kind
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    end: int = -1
    apart: bool = False
    mask: int = -1
    special: frozenset[int] = frozenset()
    words: tuple[int, ...] = ()
    sentinels: tuple[int, ...] = ()
    start: int = -1


def kind_of(name: str) -> Kind:
    """Return how a model, or the base of an adapter, reads, by its settings."""
    folder = resolve(name)
    found = base_of(folder)
    if found:
        return kind_of(found)
    settings = read_settings(transformer_folder(folder) / "config.json")
    return _kind(bool(settings.get("is_encoder_decoder")), settings.get("model_type"))


def reading_of(network: Any, tokenizer: Any, block_tokens: int) -> Reading:
    """Return how a loaded model reads.

    Raises:
        ModelError: the tokenizer lacks a token that this kind of reading needs.
    """
    name = tokenizer.name_or_path
    kind = _kind(network.config.is_encoder_decoder, network.config.model_type)
    if kind == "spans":
        sentinels = _sentinels(tokenizer, name, block_tokens)
        start = network.config.decoder_start_token_id
        return Reading(kind, end=_end(tokenizer, name), sentinels=sentinels, start=start)
    prefix, suffix = _frame(tokenizer)
    if kind == "causal":
        return Reading(kind, prefix, end=_end(tokenizer, name), apart=_scores_apart(network))
    if tokenizer.mask_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no mask token, which takes the place of a hidden one")
    special = frozenset(tokenizer.all_special_ids)
    words = tuple(sorted(set(tokenizer.get_vocab().values()) - special))
    return Reading(kind, prefix, suffix, mask=tokenizer.mask_token_id, special=special, words=words)


def _kind(encoder_decoder: bool, model_type: str | None) -> Kind:
    if encoder_decoder:
        return "spans"
    return "masked" if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "causal"


def _frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that the tokenizer puts before a text and behind it."""
    bare, framed = (tokenizer(_SAMPLE, add_special_tokens=added)["input_ids"] for added in (False, True))
    at = next(place for place in range(len(framed)) if framed[place : place + len(bare)] == bare)
    return tuple(framed[:at]), tuple(framed[at + len(bare) :])


def _end(tokenizer: Any, name: str) -> int:
    """Return the token that closes a document.

    Raises:
        ModelError: there is none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no end token, which tells where a document ends")
    return int(tokenizer.eos_token_id)


def _sentinels(tokenizer: Any, name: str, block_tokens: int) -> tuple[int, ...]:
    """Return the ids of the sentinels, in their order.

    Raises:
        ModelError: there are none, or fewer than a block needs.
    """
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    while (token := SENTINEL.format(len(found))) in vocabulary:
        found.append(vocabulary[token])
    if not found:
        raise ModelError(
            f"{name}: its tokenizer has no sentinel tokens ({SENTINEL.format(0)}, {SENTINEL.format(1)} …), which stand "
            "for the spans that an encoder-decoder learns to write; use a model of T5's kind, an encoder or a decoder"
        )
    needed = span_counts(block_tokens)[1]
    if needed > len(found):
        raise ModelError(
            f"{name}: a block of {block_tokens} tokens needs {needed} sentinel tokens, and its tokenizer has "
            f"{len(found)}; lower task.block_tokens"
        )
    return tuple(found)


@torch.no_grad()
def _scores_apart(network: Any) -> bool:
    """Try whether the head on the body gives what the whole network gives: some cap or scale their scores after it."""
    head = network.get_output_embeddings()
    if head is None:
        return False
    ids = torch.arange(4, device=network.device)[None]
    with still(network):
        with quiet():  # PEFT asks transformers by names that are going to change
            whole = network(input_ids=ids, use_cache=False).logits
        parts = head(network.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
    return whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-5, atol=1e-6)
