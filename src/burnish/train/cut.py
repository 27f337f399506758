"""A step's rows in groups that go through the model together, cut finer where memory does not hold them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from burnish.errors import ModelError
from burnish.tasks import Item, Task

T = TypeVar("T")

_PROCESSOR = "can't allocate memory"  # what torch says where it is not a GPU's memory that is full


@dataclass(frozen=True)
class Cut:
    """Rows by their places in `items`, group by group, and their batches; budget: tokens that a group may have."""

    task: Task
    model: nn.Module
    items: Sequence[Item]
    budget: int
    groups: Sequence[Sequence[int]]
    batches: Sequence[Any]

    @classmethod
    def of(cls, task: Task, model: nn.Module, items: Sequence[Item], *, budget: int) -> "Cut":
        """Cut the rows as the task does."""
        groups = task.micro_batches(model, range(len(items)), [item.tokens for item in items], budget=budget)
        batches = [task.collate([items[place] for place in group]) for group in groups]
        return cls(task, model, items, budget, groups, batches)

    def finer(self) -> "Cut":
        """Return the same rows in smaller groups: half the budget, as often as it takes.

        Raises:
            ModelError: there are none: a row alone is too large, or the loss reads all rows of a step together.
        """
        budget = self.budget
        while budget > 1:
            budget //= 2
            found = Cut.of(self.task, self.model, self.items, budget=budget)
            if len(found.groups) > len(self.groups):
                return found
        longest = max((item.tokens for item in self.items), default=0)
        raise ModelError(
            f"memory does not hold a step in {len(self.groups)} parts, and task {self.task.kind} cannot cut it finer: "
            f"its longest row has {longest:,} tokens; lower task.max_tokens or task.pass_tokens, else training.batch"
        )


def within_memory(
    cut: Cut, make: Callable[[Sequence[Any]], T], *, again: Callable[[], None], say: Callable[[str], None]
) -> tuple[T, Cut]:
    """Return what is made of the batches, and the cut with which memory held them.

    again: forgets what was made of some of them, before they are made anew. say: hears of every finer cut.

    Raises:
        ModelError: memory does not hold the finest cut.
        RuntimeError: what `make` raised for another reason.
    """
    while True:
        try:
            return make(cut.batches), cut
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and _PROCESSOR not in str(error):
                raise
        # Only here are the tensors gone that the error held.
        again()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        finer = cut.finer()
        say(
            f"memory does not hold {cut.budget:,} tokens at once; goes on with {finer.budget:,}, the same rows a step. "
            f"`training.micro_tokens: {finer.budget}` spares the next run the attempt"
        )
        cut = finer
