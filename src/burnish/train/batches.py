"""Which rows stand in which step: a pure function of the seed and the epoch, so that a resumed run meets the same."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

WINDOW = 32  # steps whose rows are sorted by length together: little padding, yet well shuffled


def step_count(rows: int, *, batch: int, epochs: float) -> int:
    """Return the steps of the whole run: rounded, and at least one."""
    return max(1, round(_steps_an_epoch(rows, batch) * epochs))


def rows_of_step(tokens: Sequence[int], step: int, *, batch: int, seed: int) -> list[int]:
    """Return the row indices of the step (counted from 0).

    Every epoch holds each row once. Its steps differ by at most one row in size, so none is left with a few rows.
    Rows of similar length stand together.
    """
    steps = _steps_an_epoch(len(tokens), batch)
    return _epoch(tuple(tokens), steps, seed, step // steps)[step % steps]


def _steps_an_epoch(rows: int, batch: int) -> int:
    return max(1, round(rows / batch))


_cached: dict[str, tuple[object, list[list[int]]]] = {}


def _epoch(tokens: tuple[int, ...], steps: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the rows of each step of an epoch; the last answer is kept, for steps ask in order."""
    key = (tokens, steps, seed, epoch)
    if _cached.get("epoch", (None,))[0] != key:
        random = np.random.Generator(np.random.PCG64([seed, epoch]))
        order = random.permutation(len(tokens))
        cuts = np.linspace(0, len(tokens), steps + 1).round().astype(int)
        batches: list[list[int]] = []
        for first in range(0, steps, WINDOW):
            edges = cuts[first : min(first + WINDOW, steps) + 1]
            window = sorted(order[edges[0] : edges[-1]].tolist(), key=lambda row: (tokens[row], row))
            batches += [window[a - edges[0] : b - edges[0]] for a, b in pairwise(edges)]
        _cached["epoch"] = (key, [batches[place] for place in random.permutation(steps)])
    return _cached["epoch"][1]
