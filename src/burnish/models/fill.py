"""Missing words found by a masked language model: BERT and its kin."""

import re
from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from burnish.errors import ModelError
from burnish.models.load import load_tokenizer, resolve
from burnish.models.loading import FAULTS
from burnish.models.packing import micro_batches
from burnish.models.padding import network_inputs, pad_right
from burnish.models.quiet import quiet
from burnish.models.safety import require_weights
from burnish.text import fingerprint

MASK = "[MASK]"  # what stands in a text for a missing word, whatever the model's own sign is

_AUTO_MASKED: Any = AutoModelForMaskedLM  # untyped at the library's border
_TOKENS_PER_PASS = 1024  # padded; each of them gets a score for every word the model knows
_LOOKED_AT = 20  # times `choices`: the likeliest tokens, among which whole words are looked for
_WORD = re.compile(r"[^\W_]+")


class Filler:
    """Texts with MASK in, the same texts with words in its places out; chance depends on seed and text alone."""

    def __init__(self, network: Any, tokenizer: Any, *, seed: int, choices: int) -> None:
        """Put the parts together; `load_filler` reads them from a folder."""
        self._network = network.eval()
        self._tokenizer = tokenizer
        self._seed = seed
        self._choices = choices
        self._words: dict[int, str] = {}  # the word that a token is; empty for a piece of one, or a sign

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the texts with each MASK replaced by one word, drawn from the likeliest by their probability.

        Several of one text are filled independently of each other. What a text is longer than the model can read stays
        as it is, masks included.
        """
        asked = [text.replace(MASK, self._tokenizer.mask_token) for text in texts]
        ids = self._tokenizer(asked, truncation=True, max_length=self._longest)["input_ids"] if asked else []
        filled = list(texts)
        for group in micro_batches(range(len(ids)), [len(row) for row in ids], budget=_TOKENS_PER_PASS):
            for row, scores in zip(group, self._scores([ids[row] for row in group]), strict=True):
                draw = Random(fingerprint(str(self._seed), texts[row]))
                start, *rest = texts[row].split(MASK)
                words = [*(self._drawn(place, draw) for place in scores), *[MASK] * len(rest)]
                filled[row] = start + "".join(word + after for word, after in zip(words, rest, strict=False))
        return filled

    @property
    def _longest(self) -> int:
        """Tokens that the model can read at once."""
        places = self._network.config.to_dict().get("max_position_embeddings") or self._tokenizer.model_max_length
        return int(min(places, self._tokenizer.model_max_length))

    @torch.inference_mode()
    def _scores(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the scores of every token at each masked place of each row, (masks, vocabulary)."""
        ids, mask = pad_right(rows)
        logits = self._network(**network_inputs(self._network, ids, mask)).logits.cpu()
        masked = (ids == self._tokenizer.mask_token_id) & mask.bool()
        return [row[places].float() for row, places in zip(logits, masked, strict=True)]

    def _drawn(self, scores: Tensor, draw: Random) -> str:
        """Return one of the likeliest words; MASK where there is none among the likeliest tokens."""
        best = scores.topk(min(self._choices * _LOOKED_AT, len(scores)))
        found: dict[str, float] = {}
        for token, score in zip(best.indices.tolist(), best.values.softmax(dim=0).tolist(), strict=True):
            word = self._word(token)
            if word and len(found) < self._choices:
                found.setdefault(word, score)
        return draw.choices(list(found), list(found.values()))[0] if found else MASK

    def _word(self, token: int) -> str:
        """Return the word that a token is by itself, or an empty string."""
        if token not in self._words:
            word = self._tokenizer.decode([token]).strip()
            alone = self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"] == [token]
            whole = alone and token not in self._tokenizer.all_special_ids and _WORD.fullmatch(word)
            self._words[token] = word if whole else ""
        return self._words[token]


def load_filler(name: str, *, seed: int = 0, choices: int = 10) -> Filler:
    """Return a function that fills masked words with a model: a folder or a hub name.

    choices: how many of the likeliest words one is drawn from; with 1 it is always the likeliest, which is often the
    word that was masked.

    Raises:
        ModelError: the model cannot be found or loaded, or was not trained to find masked words.
        ValueError: choices are below 1.
    """
    if choices < 1:
        raise ValueError(f"choices must be at least 1 (found {choices})")
    folder = resolve(name)
    require_weights(folder, "model")
    tokenizer = load_tokenizer(name, folder)
    if tokenizer.mask_token is None:
        raise ModelError(f"{name}: its tokenizer has no sign for a masked word; a model like BERT is needed")
    try:
        with quiet():
            network, info = _AUTO_MASKED.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except FAULTS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name}: this cannot be loaded as a masked language model: {reason}") from error
    if info["missing_keys"]:
        raise ModelError(
            f"{name}: this model has no trained head for masked words ({', '.join(sorted(info['missing_keys'])[:3])} "
            "missing); a text encoder that was tuned for retrieval has lost it: take the model it was made from"
        )
    return Filler(network, tokenizer, seed=seed, choices=choices)
