"""Rows of token ids as one rectangle, and what a network is given of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return (rows, width) token ids, 0 where a row has ended, and the mask that is 1 where it has not."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask


def network_inputs(model: nn.Module, ids: Tensor, mask: Tensor, types: Tensor | None = None) -> dict[str, Tensor]:
    """Return the network's arguments, on its device.

    What is padded gets the model's own padding token: a decoder's head looks for the last token that is another one.
    types: 1 on the second text of a pair, for models that tell the two apart by this.
    """
    network: Any = model
    device = next(model.parameters()).device
    pad = network.config.get_text_config().pad_token_id or 0
    found = {"input_ids": ids.masked_fill(mask == 0, pad).to(device), "attention_mask": mask.to(device)}
    return found if types is None else {**found, "token_type_ids": types.to(device)}


def longest_input(network: Any, tokenizer: Any) -> int:
    """Return how many tokens the network can read at once, special tokens included."""
    places = network.config.to_dict().get("max_position_embeddings") or tokenizer.model_max_length
    return int(min(places, tokenizer.model_max_length))
