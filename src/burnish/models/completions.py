"""Prompts with their completions: batches of them, and the logits at the completions' tokens alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache

from burnish.models.padding import network_inputs, pad_right

Row: TypeAlias = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt and of its completion


@dataclass(frozen=True, slots=True)
class CompletionBatch:
    """Rows padded on the right; `places` are flat positions whose next token is trained, `targets` those tokens.

    input_ids: prompt and completion, or the prompt alone where an encoder reads it; decoder_ids: then the completion
    moved by one token, behind the place of the start token, which is filled with -1 for the model's own.
    """

    input_ids: Tensor
    attention_mask: Tensor | None  # None where nothing is padded
    places: Tensor
    targets: Tensor
    decoder_ids: Tensor | None = None


def collate_joined(rows: Sequence[Row]) -> CompletionBatch:
    """Return the batch of a causal model: the completion stands behind its prompt."""
    ids, mask = pad_right([(*prompt, *completion) for prompt, completion in rows])
    width = ids.shape[1]
    places = [
        row * width + len(prompt) - 1 + step
        for row, (prompt, completion) in enumerate(rows)
        for step in range(len(completion))
    ]
    targets = torch.tensor([token for _, completion in rows for token in completion])
    return CompletionBatch(ids, None if mask.all() else mask, torch.tensor(places), targets)


def collate_apart(rows: Sequence[Row]) -> CompletionBatch:
    """Return the batch of an encoder-decoder: the encoder reads the prompt, the decoder writes the completion."""
    ids, mask = pad_right([prompt for prompt, _ in rows])
    decoder_ids, _ = pad_right([(-1, *completion[:-1]) for _, completion in rows])
    width = decoder_ids.shape[1]
    places = [row * width + step for row, (_, completion) in enumerate(rows) for step in range(len(completion))]
    targets = torch.tensor([token for _, completion in rows for token in completion])
    return CompletionBatch(ids, mask, torch.tensor(places), targets, decoder_ids)


def completion_logits(model: nn.Module, batch: CompletionBatch) -> Tensor:
    """Return (trained tokens, vocabulary) logits; of a causal model the LM head sees these positions alone."""
    return _joined(model, batch) if batch.decoder_ids is None else _apart(model, batch, batch.decoder_ids)


def _joined(model: nn.Module, batch: CompletionBatch) -> Tensor:
    outer: Any = model
    network = outer.get_base_model() if isinstance(model, PeftModel) else outer
    device = next(network.parameters()).device
    ids = batch.input_ids.to(device)
    mask = None if batch.attention_mask is None else batch.attention_mask.to(device)
    hidden = network.get_decoder()(**_behind_soft_tokens(model, ids, mask), use_cache=False).last_hidden_state
    hidden = hidden[:, -ids.shape[1] :]  # without what soft tokens left
    logits: Tensor = network.get_output_embeddings()(hidden.reshape(-1, hidden.shape[-1])[batch.places.to(device)])
    return logits


def _apart(model: nn.Module, batch: CompletionBatch, decoder_ids: Tensor) -> Tensor:
    """Return the logits of an encoder-decoder: nearly all of its decoder's positions are trained."""
    outer: Any = model
    assert batch.attention_mask is not None
    inputs = network_inputs(model, batch.input_ids, batch.attention_mask)
    start = outer.config.decoder_start_token_id
    begun = decoder_ids.masked_fill(decoder_ids < 0, start).to(inputs["input_ids"].device)
    logits: Tensor = outer(**inputs, decoder_input_ids=begun, use_cache=False).logits
    return logits.flatten(0, 1)[batch.places.to(logits.device)]


def _behind_soft_tokens(model: nn.Module, ids: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """Return what the decoder is called with: the tokens, behind a prefix or soft tokens where PEFT has added them.

    PEFT puts these into calls of the whole model, whose LM head would see every position.
    """
    if not isinstance(model, PeftModel) or not model.active_peft_config.is_prompt_learning:
        return {"input_ids": ids, "attention_mask": mask}
    outer: Any = model
    before = outer.get_prompt(len(ids))
    if mask is not None:
        mask = torch.cat([mask.new_ones(len(ids), model.active_peft_config.num_virtual_tokens), mask], dim=1)
    if isinstance(before, Cache):
        return {"input_ids": ids, "attention_mask": mask, "cache": before}
    return {"inputs_embeds": torch.cat([before, outer.word_embeddings(ids)], dim=1), "attention_mask": mask}
