"""The vectors of a batch of any size, with the activations of one pass: GradCache."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from burnish.models.packing import micro_batches

Texts = Sequence[Sequence[int]]  # token ids
Embed = Callable[[Texts], Tensor]  # texts that are padded together → (texts, width)


class Side(NamedTuple):
    """Texts and the tower that reads them; moves: whether it gets a gradient."""

    embed: Embed
    texts: Texts
    moves: bool = True


def cached_vectors(sides: Sequence[Side], *, pass_tokens: int, at_once: int, device: torch.device) -> list[Tensor]:
    """Return the vectors of each side's texts, in the order given.

    Texts go through their tower in passes of at most `at_once` padded tokens. The last passes, `pass_tokens` together,
    keep their activations. Those before leave no more than their vectors, and are computed again, one at a time and
    with the same dropout, when gradients flow back: what Gao et al. 2021 (arXiv 2101.06983) do by hand is activation
    checkpointing of whole passes. So a batch that fits costs nothing more, a larger one at most one more forward pass,
    and its gradient is the same. A side that gets no gradient leaves nothing, and is left out of all this. device: of
    the towers.
    """
    passes = [
        (side, group, moves * len(group) * max(len(texts[row]) for row in group))
        for side, (_, texts, moves) in enumerate(sides)
        for group in micro_batches(range(len(texts)), [len(text) for text in texts], budget=min(at_once, pass_tokens))
    ]
    passes.sort(key=lambda one: sides[one[0]].moves)  # what leaves nothing stands before what is kept
    sizes = accumulate(size for _, _, size in reversed(passes))
    kept = max(1, sum(total <= pass_tokens for total in sizes))
    here = torch.empty(0, device=device)  # tells `checkpoint` whose random state it has to bring back
    found: list[list[Tensor]] = [[] for _ in sides]
    for place, (side, group, _) in enumerate(passes):
        embed, texts, moves = sides[side]
        rows = [texts[row] for row in group]
        if not moves:
            with torch.no_grad():
                vectors: Tensor = embed(rows)
        elif place < len(passes) - kept:
            vectors = checkpoint(_run, here, embed, rows, use_reentrant=False)
        else:
            vectors = embed(rows)
        found[side].append(vectors)
    orders = [[row for other, group, _ in passes if other == side for row in group] for side in range(len(sides))]
    return [torch.cat(parts)[torch.tensor(order).argsort()] for parts, order in zip(found, orders, strict=True)]


def _run(_: Tensor, embed: Embed, rows: Texts) -> Tensor:
    return embed(rows)
