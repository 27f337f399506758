"""Several sets of rows in one training: which of them a step is of, by weight, from the seed alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Sets:
    """The sets that a run is trained on together, in the order of their rows.

    sizes: rows of each. weights: of each, above 0, on any scale. one_set: the rows of a step are of one set, and the
    sets have steps by weight; otherwise each step has rows of every set, by weight.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    one_set: bool = True

    def rows_of_each(self, batch: int) -> list[int]:
        """Return how many rows of each set a step of all sets holds: by weight, rounded, at least one.

        batch: rows of a step, as many as there are sets at least.
        """
        rows = [max(1, many) for many in apportioned(batch, self.weights)]
        while sum(rows) > batch:
            rows[rows.index(max(rows))] -= 1
        return rows

    def turns(self, steps: int, seed: int) -> list[tuple[int, int]]:
        """Return for each step of one set: which set it is of, and how many steps this set has had before.

        Every set has its share of the steps, rounded, and has it all along the run: each of its turns falls into a
        stretch of its own, at a place that is drawn from the seed.
        """
        random = np.random.Generator(np.random.PCG64([seed, 2]))
        many = apportioned(steps, self.weights)
        places = np.concatenate([(np.arange(n) + random.random(n)) / n for n in many if n])
        which = np.repeat(np.arange(len(many)), many)[places.argsort(kind="stable")]
        counts = [0] * len(many)
        found = []
        for number in which.tolist():
            found.append((number, counts[number]))
            counts[number] += 1
        return found


def apportioned(whole: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers that add up to `whole`, by weight: rounded down, the rest to the largest remainders."""
    exact = [whole * weight / sum(weights) for weight in weights]
    found = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda place: found[place] - exact[place])
    for place in order[: whole - sum(found)]:
        found[place] += 1
    return found
