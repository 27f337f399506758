"""BERTScore of texts: token vectors from an encoder, then the metric, a few hundred examples at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import log
from typing import TypeAlias

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from burnish.errors import DataError, ModelError
from burnish.metrics import Answers, require_answers
from burnish.metrics.bertscore import Bertscore, TokenVectors
from burnish.models.encode import Encoder, tokens_at_once
from burnish.models.packing import micro_batches

BLOCK = 256  # examples whose vectors are held at once: 160 MB for two texts of 100 tokens each in 768 dimensions

Ids: TypeAlias = list[int]


@dataclass(frozen=True, slots=True)
class TextScores:
    """What `bertscore` returns: one score an example, and how many texts were longer than the encoder reads."""

    scores: list[float]
    cut: int


def bertscore(
    metric: Bertscore,
    predictions: Sequence[str],
    references: Sequence[Answers],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> TextScores:
    """Score texts with the encoder that the metric names; `score.interval` goes on from there.

    idf: the weight of a token is log((N + 1) / (n + 1)) where n of the N reference texts hold it. A prediction made
    only of tokens that stand in every reference says nothing, and scores 0.

    Raises:
        DataError: with idf, a reference is left without any weight.
        ModelError: the encoder cannot be loaded, or has no such layer.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
    rights = [text for answers in require_answers(references) for text in answers]
    encoder = Encoder.load(metric.model, dtype=dtype).to(device)
    layers = int(encoder.config.num_hidden_layers)
    if metric.layer is not None and metric.layer > layers:
        raise ModelError(f"{metric.model}: layer {metric.layer} is asked for; there are 0 (the embeddings) to {layers}")
    said, said_cut = encoder.tokenize(predictions, max_tokens=encoder.longest)
    right, right_cut = encoder.tokenize(rights, max_tokens=encoder.longest)
    weights = _Idf(encoder, right) if metric.idf else None
    for text, ids in zip(rights, right, strict=True):
        own = _own(encoder, ids)
        if weights is not None and own and not any(weights[ids[place]] for place in own):
            raise DataError(
                f"idf leaves the reference {text!r} without weight: each of its tokens stands in every reference. "
                "Leave idf out, or score more references"
            )
    scores: list[float] = []
    waiting = iter(right)
    for start in range(0, len(said), BLOCK):
        counts = [len(answers) for answers in references[start : start + BLOCK]]
        mine = _vectors(encoder, said[start : start + BLOCK], metric.layer, weights)
        other = iter(_vectors(encoder, list(islice(waiting, sum(counts))), metric.layer, weights))
        scores += metric.score(mine, [list(islice(other, count)) for count in counts])
    return TextScores(scores, said_cut + right_cut)


class _Idf(dict[int, float]):
    """Token → how rare it is among the reference texts; a token that stands in all of them weighs 0."""

    def __init__(self, encoder: Encoder, references: Sequence[Ids]) -> None:
        holding = Counter(token for ids in references for token in {ids[place] for place in _own(encoder, ids)})
        super().__init__({token: log((len(references) + 1) / (n + 1)) for token, n in holding.items()})
        self._unseen = log(len(references) + 1)

    def __missing__(self, _token: int) -> float:
        return self._unseen


def _own(encoder: Encoder, ids: Ids) -> list[int]:
    """Return the places of the tokens that stand for the text itself, not for its beginning or end."""
    tokenizer = encoder.tokenizer
    around = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    return [place for place, token in enumerate(ids) if token not in around]


def _vectors(encoder: Encoder, rows: Sequence[Ids], layer: int | None, weights: _Idf | None) -> list[TokenVectors]:
    """Return each text as the encoder's layer sees it, the last layer where none is named."""
    found: dict[int, TokenVectors] = {}
    for group in micro_batches(range(len(rows)), [len(ids) for ids in rows], budget=tokens_at_once(encoder)):
        hidden = _hidden(encoder, [rows[row] for row in group], layer)
        for row, states in zip(group, hidden, strict=True):
            own = _own(encoder, rows[row])
            rare = np.array([weights[rows[row][place]] if weights is not None else 1.0 for place in own])
            found[row] = TokenVectors(functional.normalize(states[own].float(), dim=-1).cpu().numpy(), rare)
    return [found[row] for row in range(len(rows))]


@torch.inference_mode()
def _hidden(encoder: Encoder, rows: Sequence[Ids], layer: int | None) -> torch.Tensor:
    """Return (rows, places, width) hidden states of rows that are padded together at their ends."""
    device = next(encoder.parameters()).device
    pad = encoder.tokenizer.pad_token_id or 0
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    states = encoder.transformer(
        input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True
    ).hidden_states
    chosen: torch.Tensor = states[-1 if layer is None else layer]
    return chosen
