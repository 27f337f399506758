"""Which rows stand in which step: a pure function of the seed and the epoch, so that a resumed run meets the same."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from burnish.sequences import Joined, StoredItems
from burnish.tasks import Item
from burnish.train.mixing import Sets

WINDOW = 32  # steps whose rows are sorted by length together: little padding, yet well shuffled


@dataclass(frozen=True)
class Plan:
    """Which rows stand in which step of a run, by their places; the last `rehearsed` ones are mixed into the others.

    tokens: of each row. batch: rows a step, of both kinds. epochs: of the rows that are not rehearsed. share: of each
    step's rows, to be rehearsed; rounded, and at least one row of each kind. sets: where the rows that are not
    rehearsed are of several sets; an epoch then has as many steps as all of them would need, and the sets have their
    parts of these by weight: a set begins anew once all its rows had their turn.
    """

    tokens: tuple[int, ...]
    batch: int
    epochs: float
    seed: int
    rehearsed: int = 0
    share: float = 0.0
    sets: Sets | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return step_count(self._own, batch=self._own_batch, epochs=self.epochs)

    def rows(self, step: int) -> list[int]:
        """Return the rows of the step (counted from 0).

        Those that are rehearsed take turns: each stands in a step once before any does twice, in an order that is
        drawn anew for each round.
        """
        found = self._own_rows(step)
        if not self.rehearsed:
            return found
        own = self._own / _steps_an_epoch(self._own, self._own_batch)
        many = max(1, round(own * self.share / (1 - self.share)))
        turns = [divmod(turn, self.rehearsed) for turn in range(step * many, (step + 1) * many)]
        rounds = {number: self._round(number) for number in dict(turns)}
        return found + [self._own + rounds[number][place] for number, place in turns]

    def of_sets(self) -> list[tuple[int, float]]:
        """Return how much of the run each set has, and how often its rows stand in a step.

        How much: steps, where a step is of one set, and rows of each step otherwise.
        """
        assert self.sets, "the rows are of one set"
        if not self.sets.one_set:
            many = self.sets.rows_of_each(self._own_batch)
            return [(n, self.steps / _steps_an_epoch(size, n)) for n, size in zip(many, self.sets.sizes, strict=True)]
        counts = [0] * len(self.sets.sizes)
        for number, _ in self._turns:
            counts[number] += 1
        return [
            (n, n / _steps_an_epoch(size, self._own_batch)) for n, size in zip(counts, self.sets.sizes, strict=True)
        ]

    def _own_rows(self, step: int) -> list[int]:
        """Return those rows of a step that are not rehearsed."""
        if not self.sets:
            return rows_of_step(self.tokens[: self._own], step, batch=self._own_batch, seed=self.seed)
        if self.sets.one_set:
            number, turn = self._turns[step]
            chosen = [(number, turn, self._own_batch)]
        else:
            chosen = [(number, step, n) for number, n in enumerate(self.sets.rows_of_each(self._own_batch))]
        return [
            self._tokens_of_sets[number][0] + row
            for number, turn, batch in chosen
            for row in rows_of_step(self._tokens_of_sets[number][1], turn, batch=batch, seed=self.seed, of=number + 1)
        ]

    @cached_property
    def _turns(self) -> list[tuple[int, int]]:
        """Which set each step is of, and how many steps this set has had before."""
        assert self.sets
        return self.sets.turns(self.steps, self.seed)

    @cached_property
    def _tokens_of_sets(self) -> list[tuple[int, tuple[int, ...]]]:
        """Where the rows of each set begin, and their tokens."""
        assert self.sets and sum(self.sets.sizes) == self._own, "the sizes of the sets are those of the rows"
        edges = [0, *accumulate(self.sets.sizes)]
        return [(first, self.tokens[first:end]) for first, end in pairwise(edges)]

    @property
    def _own(self) -> int:
        return len(self.tokens) - self.rehearsed

    @property
    def _own_batch(self) -> int:
        return max(1, self.batch - max(1, round(self.share * self.batch))) if self.rehearsed else self.batch

    def _round(self, number: int) -> list[int]:
        """Return the order of the rehearsed rows in one round."""
        order: list[int] = (
            np.random.Generator(np.random.PCG64([self.seed, number, 1])).permutation(self.rehearsed).tolist()
        )
        return order


def token_counts(items: Sequence[Item]) -> tuple[int, ...]:
    """Return the tokens of each item; stored items are not read for it."""
    if isinstance(items, StoredItems):
        return tuple(items.tokens)
    if isinstance(items, Joined):
        return tuple(tokens for part in items.parts for tokens in token_counts(part))
    return tuple(item.tokens for item in items)


def step_count(rows: int, *, batch: int, epochs: float) -> int:
    """Return the steps of the whole run: rounded, and at least one."""
    return max(1, round(_steps_an_epoch(rows, batch) * epochs))


def evaluation_steps(steps: int, times: int) -> set[int]:
    """Return the steps (counted from 1) after which the dev set is scored: evenly spread, the last one included."""
    return {math.ceil(steps * part / times) for part in range(1, times + 1)} if times else set()


def rows_of_step(tokens: Sequence[int], step: int, *, batch: int, seed: int, of: int = 0) -> list[int]:
    """Return the row indices of the step (counted from 0); of: the number of the set, where there are several.

    Every epoch holds each row once. Its steps differ by at most one row in size, so none is left with a few rows.
    Rows of similar length stand together.
    """
    steps = _steps_an_epoch(len(tokens), batch)
    return _epoch(tuple(tokens), steps, seed, step // steps, of)[step % steps]


def _steps_an_epoch(rows: int, batch: int) -> int:
    return max(1, round(rows / batch))


_cached: dict[int, tuple[object, list[list[int]]]] = {}  # by the number of the set


def _epoch(tokens: tuple[int, ...], steps: int, seed: int, epoch: int, of: int) -> list[list[int]]:
    """Return the rows of each step of an epoch; the last answer of each set is kept, for steps ask in order."""
    key = (tokens, steps, seed, epoch)
    if _cached.get(of, (None,))[0] != key:
        random = np.random.Generator(np.random.PCG64([seed, epoch, of, 3] if of else [seed, epoch]))
        order = random.permutation(len(tokens))
        cuts = np.linspace(0, len(tokens), steps + 1).round().astype(int)
        batches: list[list[int]] = []
        for first in range(0, steps, WINDOW):
            edges = cuts[first : min(first + WINDOW, steps) + 1]
            window = sorted(order[edges[0] : edges[-1]].tolist(), key=lambda row: (tokens[row], row))
            batches += [window[a - edges[0] : b - edges[0]] for a, b in pairwise(edges)]
        _cached[of] = (key, [batches[place] for place in random.permutation(steps)])
    return _cached[of][1]
