"""Several processes that train one model: which of them leads, and what they agree on."""

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from burnish.models.precision import chosen_dtype
from burnish.train.settings import Training


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
