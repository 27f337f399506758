"""Answers to many prompts, scored a few at a time: the activations of one pass, and the gradient of all of them."""

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.models.completions import (
    CompletionBatch,
    collate_branches_apart,
    collate_kin,
    completion_logps,
)
from burnish.models.packing import micro_batches, packed_batches
from burnish.models.segments import is_packed

Row = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt, and of its answer, neither of them empty
Kin = tuple[int, Sequence[int]]  # first tokens that prompts share, and the prompts' places


def logps_in_passes(
    model: nn.Module, rows: Sequence[Row], *, pass_tokens: int, apart: bool, families: Sequence[int] = ()
) -> list[Tensor]:
    """Return for each row (tokens of its answer,): ln of each token's probability, in fp32.

    Rows go through the model in passes of at most `pass_tokens` tokens; one that is longer stands alone. Where
    gradients are enabled and there are several passes, a pass leaves its result alone and is computed again when
    gradients flow back, with the same dropout (activation checkpointing of whole passes). So the memory is that of one
    pass however many rows there are, for one more forward pass, and the gradient is the same. apart: an encoder of its
    own reads the prompts. families: a number for each row; what prompts of one number begin with alike, the prompts of
    one question with different passages, is read once a pass where the model reads without padding.
    """
    packed = is_packed(model)
    kin: list[Kin] = [(len(prompt), [place]) for place, (prompt, _) in enumerate(rows)]
    if packed and families:
        kin = _kin(rows, families, pass_tokens)
    sizes = [shared + sum(_own(rows[place], shared) for place in places) for shared, places in kin]
    groups = (packed_batches if packed else micro_batches)(range(len(kin)), sizes, budget=pass_tokens)
    keeps = len(groups) == 1 or not torch.is_grad_enabled()
    here = torch.empty(0, device=next(model.parameters()).device)  # tells `checkpoint` whose random state to bring back
    found: dict[int, Tensor] = {}
    for group in groups:
        together = [kin[number] for number in group]
        batch = _batch(rows, together, apart=apart)
        logps = _run(here, model, batch) if keeps else checkpoint(_run, here, model, batch, use_reentrant=False)
        assert isinstance(logps, Tensor)
        places = [place for _, own in together for place in own]
        found |= dict(zip(places, torch.split(logps, batch.lengths), strict=True))
    return [found[place] for place in range(len(rows))]


def _kin(rows: Sequence[Row], families: Sequence[int], limit: int) -> list[Kin]:
    """Return the rows of each family with what their prompts share, as many at a time as the limit has room for."""
    members: dict[int, list[int]] = {}
    for place, family in enumerate(families):
        members.setdefault(family, []).append(place)
    found: list[Kin] = []
    for places in members.values():
        shared = shared_beginning([rows[place][0] for place in places])
        room = -1  # a family begins anew
        for place in places:
            own = _own(rows[place], shared)
            if not shared or own > room:
                found.append((shared or len(rows[place][0]), []))
                room = limit - shared
            found[-1] = (found[-1][0], [*found[-1][1], place])
            room -= own
    return found


def shared_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all prompts have alike."""
    return sum(1 for _ in takewhile(lambda tokens: len({*tokens}) == 1, zip(*prompts, strict=False)))


def _own(row: Row, shared: int) -> int:
    """Return the tokens of a row behind those that it shares; an answer's last one is only a target."""
    prompt, answer = row
    return len(prompt) - shared + len(answer) - 1


def _batch(rows: Sequence[Row], together: Sequence[Kin], *, apart: bool) -> CompletionBatch:
    if apart:
        return collate_branches_apart(
            [(rows[place][0], (rows[place][1],)) for _, places in together for place in places]
        )
    return collate_kin([(shared, [rows[place] for place in places]) for shared, places in together])


def _run(_: Tensor, model: nn.Module, batch: CompletionBatch) -> Tensor:
    return completion_logps(model, batch)
