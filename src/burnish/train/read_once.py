"""Texts that frozen layers read once: before the first step, all rows in an order of their own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from burnish.models.kept_states import KeptStates
from burnish.tasks import Item, Task
from burnish.train.cut import Cut, within_memory
from burnish.train.settings import Training


@contextmanager
def read_once(
    model: nn.Module,
    task: Task,
    items: Sequence[Item],
    sizes: Sequence[int],
    training: Training,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Let no epoch but the first compute what an encoder's frozen lower layers make of the rows' texts.

    sizes: tokens of each row. say: hears where memory holds fewer at once. Where layers stand still and drop nothing
    (`method: head`, `freeze_layers`) and there are several epochs, all rows are read before the first step, the
    shortest first; a run that goes on reads them anew, in the same batches, and ends bit for bit as one that never
    stopped.
    """
    with KeptStates(model.train(), tokens=sum(sizes)) as states:
        states.fills = training.epochs > 1 and states.can_fill
        order = sorted(range(len(items)), key=lambda row: (sizes[row], row)) if states.fills else []
        budget = training.micro_tokens
        for first in range(0, len(order), training.batch):
            rows = [items[row] for row in order[first : first + training.batch]]
            cut = Cut.of(task, model, rows, budget=budget)
            budget = within_memory(cut, partial(_read, task, model), again=lambda: None, say=say)[1].budget
            if not states.texts:
                break
        states.fills = False
        yield


def _read(task: Task, model: nn.Module, batches: Sequence[Any]) -> None:
    for batch in batches:
        task.total_loss(model, batch)
