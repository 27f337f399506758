"""Model folders that load without burnish."""

import copy
from pathlib import Path
from typing import Any

from torch import nn

from burnish.models.quiet import quiet


def save_network(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write a transformers folder, or PEFT's where the model is an adapter on its base, with the tokenizer."""
    network: Any = model
    plain = copy.deepcopy(tokenizer)
    plain.backend_tokenizer.no_truncation()  # of the last call, which would be written as its setting
    plain.backend_tokenizer.no_padding()
    with quiet():
        network.save_pretrained(folder)
        plain.save_pretrained(folder)
