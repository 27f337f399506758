"""Answers to many prompts, scored a few at a time: the activations of one pass, and the gradient of all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.models.completions import CompletionBatch, collate_branches, collate_branches_apart, completion_logps
from burnish.models.packing import micro_batches, packed_batches
from burnish.models.segments import is_packed

Row = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt, and of its answer, neither of them empty


def logps_in_passes(model: nn.Module, rows: Sequence[Row], *, pass_tokens: int, apart: bool) -> list[Tensor]:
    """Return for each row (tokens of its answer,): ln of each token's probability, in fp32.

    Rows go through the model in passes of at most `pass_tokens` tokens; one that is longer stands alone. Where
    gradients are enabled and there are several passes, a pass leaves its result alone and is computed again when
    gradients flow back, with the same dropout (activation checkpointing of whole passes). So the memory is that of one
    pass however many rows there are, for one more forward pass, and the gradient is the same. apart: an encoder of its
    own reads the prompts.
    """
    sizes = [len(prompt) + len(answer) for prompt, answer in rows]
    groups = (packed_batches if is_packed(model) else micro_batches)(range(len(rows)), sizes, budget=pass_tokens)
    keeps = len(groups) == 1 or not torch.is_grad_enabled()
    here = torch.empty(0, device=next(model.parameters()).device)  # tells `checkpoint` whose random state to bring back
    found: dict[int, Tensor] = {}
    for group in groups:
        read = [(rows[place][0], (rows[place][1],)) for place in group]
        batch = collate_branches_apart(read) if apart else collate_branches(read)
        logps = _run(here, model, batch) if keeps else checkpoint(_run, here, model, batch, use_reentrant=False)
        assert isinstance(logps, Tensor)
        found |= dict(zip(group, torch.split(logps, batch.lengths), strict=True))
    return [found[place] for place in range(len(rows))]


def _run(_: Tensor, model: nn.Module, batch: CompletionBatch) -> Tensor:
    return completion_logps(model, batch)
