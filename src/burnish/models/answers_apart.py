"""Answers to many prompts, scored a few at a time: the activations of one pass, and the gradient of all of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.models.completions import (
    CompletionBatch,
    collate_branches_apart,
    collate_kin,
    completion_logps,
)
from burnish.models.packing import micro_batches
from burnish.models.segments import is_packed

Row = tuple[Sequence[int], Sequence[int]]  # token ids of a prompt, and of its answer, neither of them empty
Kin = Sequence[tuple[int, int]]  # rows' places, and how many first tokens of the first one's prompt each has; that: 0


def logps_in_passes(
    model: nn.Module, rows: Sequence[Row], *, pass_tokens: int, apart: bool, families: Sequence[int] = ()
) -> list[Tensor]:
    """Return for each row (tokens of its answer,): ln of each token's probability, in fp32.

    Rows go through the model in passes of at most `pass_tokens` tokens; one that is longer stands alone. Where
    gradients are enabled and there are several passes, a pass leaves its result alone and is computed again when
    gradients flow back, with the same dropout (activation checkpointing of whole passes). So the memory is that of one
    pass however many rows there are, for one more forward pass, and the gradient is the same. apart: an encoder of its
    own reads the prompts. families: a number for each row; what prompts of one number begin with alike, the prompts of
    one question with different passages, is read once a pass where the model reads without padding: each goes on from
    as much of one of them as it shares with that one.
    """
    packed = is_packed(model)
    kin: list[Kin] = [[(place, 0)] for place in range(len(rows))]
    if packed and families:
        kin = _kin(rows, families, pass_tokens)
    sizes = [sum(_own(rows[place], seen) for place, seen in together) for together in kin]
    groups = micro_batches(range(len(kin)), sizes, budget=pass_tokens, padded=not packed)
    keeps = len(groups) == 1 or not torch.is_grad_enabled()
    here = torch.empty(0, device=next(model.parameters()).device)  # tells `checkpoint` whose random state to bring back
    found: dict[int, Tensor] = {}
    for group in groups:
        together = [kin[number] for number in group]
        batch = _batch(rows, together, apart=apart)
        logps = _run(here, model, batch) if keeps else checkpoint(_run, here, model, batch, use_reentrant=False)
        assert isinstance(logps, Tensor)
        places = [place for own in together for place, _ in own]
        found |= dict(zip(places, torch.split(logps, batch.lengths), strict=True))
    return [found[place] for place in range(len(rows))]


def _kin(rows: Sequence[Row], families: Sequence[int], limit: int) -> list[Kin]:
    """Return the rows of each family by what their prompts share, as many together as the limit has room for."""
    members: dict[int, list[int]] = {}
    for place, family in enumerate(families):
        members.setdefault(family, []).append(place)
    found: list[Kin] = []
    for own in members.values():
        waiting = own
        while waiting:
            first, shared = _trunk([rows[place][0] for place in waiting])
            together, room = [(waiting[first], 0)], limit - _own(rows[waiting[first]], 0)
            left: list[int] = []
            for number, (place, seen) in enumerate(zip(waiting, shared, strict=True)):
                size = _own(rows[place], seen)
                if number != first and seen and size <= room:
                    together.append((place, seen))
                    room -= size
                elif number != first:
                    left.append(place)
            found.append(together)
            waiting = left
    return found


def _trunk(prompts: Sequence[Sequence[int]]) -> tuple[int, list[int]]:
    """Return which prompt the others begin like, and how many first tokens each has of it.

    It is the first one or the last: of prompts that each leave out another passage, the last keeps the others' order
    longest.
    """
    shared = {number: [_alike(prompts[number], other) for other in prompts] for number in (0, len(prompts) - 1)}
    first = max(shared, key=lambda number: sum(shared[number]) - len(prompts[number]))
    return first, shared[first]


def shared_beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all prompts have alike."""
    return min((_alike(prompts[0], other) for other in prompts), default=0)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two prompts have alike, by halves, each compared at once."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if [*one[same:middle]] == [*other[same:middle]]:
            same = middle
        else:
            most = middle - 1
    return same


def _own(row: Row, shared: int) -> int:
    """Return the tokens of a row behind those that it shares; an answer's last one is only a target."""
    prompt, answer = row
    return len(prompt) - shared + len(answer) - 1


def _batch(rows: Sequence[Row], together: Sequence[Kin], *, apart: bool) -> CompletionBatch:
    if apart:
        return collate_branches_apart([(rows[place][0], (rows[place][1],)) for own in together for place, _ in own])
    return collate_kin([[(seen, *rows[place]) for place, seen in own] for own in together])


def _run(_: Tensor, model: nn.Module, batch: CompletionBatch) -> Tensor:
    return completion_logps(model, batch)
