"""Several processes that train one model: which of them leads, and what they agree on."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object

from burnish.models.precision import chosen_dtype
from burnish.tasks import Facts
from burnish.train.settings import Training

WINDOW = 50  # steps that are looked back on
Recent: TypeAlias = Mapping[str, Sequence[tuple[Sequence[int], float]]]  # by name, of each of the last steps its set's
# members, and what their number is divided by


def processes() -> PartialState:
    """Return this process's place among those that `accelerate launch` or `torchrun` started; alone, it leads."""
    return PartialState(cpu=not torch.accelerator.is_available())  # else processor-only ones would run apart


def agreed_dtype(training: Training) -> torch.dtype:
    """Return the number format that the leading process found best: two processes may time the chip differently."""
    if processes().num_processes == 1:
        return chosen_dtype(training.precision)
    found = [chosen_dtype(training.precision)]
    broadcast_object_list(found)
    return found[0]


def summed(accelerator: Accelerator, value: float) -> Any:
    """Return the sum of a number over all processes."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.reduce(torch.tensor(float(value), device=accelerator.device, dtype=torch.float64)).item()


def means(accelerator: Accelerator, facts: Facts, recent: Recent) -> tuple[dict[str, float], Recent]:
    """Return each sum divided by what it is divided by, both over all processes; what there is nothing of is left out.

    facts: by name, the same names in every process. Of a set counts how many there are in all processes' together, in
    this step and in the last ones, `recent`, which are returned with this step's.
    """
    found, looked = {}, dict(recent)
    for name, (total, own) in facts.items():
        of = summed(accelerator, own)
        if isinstance(total, frozenset):
            members = _united(accelerator, total)
            looked[name] = [*recent.get(name, ()), (sorted(members), of)][-WINDOW:]
            found[name] = (len(members), of)
            counts = [count for _, count in looked[name]]
            found[f"{name}, {WINDOW} steps"] = (len({one for step, _ in looked[name] for one in step}), sum(counts))
        else:
            found[name] = (summed(accelerator, total), of)
    return {name: whole / of for name, (whole, of) in found.items() if of}, looked


def _united(accelerator: Accelerator, members: frozenset[int]) -> frozenset[int]:
    """Return the members of all processes' sets."""
    if accelerator.num_processes == 1:
        return members
    return frozenset[int]().union(*gather_object([members]))


def add_up(accelerator: Accelerator, gradients: Sequence[torch.Tensor]) -> None:
    """Sum the gradients over all processes, in place."""
    if accelerator.num_processes == 1:
        return
    flat = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="sum")
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
