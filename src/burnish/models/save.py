"""Model folders that load without burnish."""

import copy
from pathlib import Path
from typing import Any

from torch import nn

from burnish.models.quiet import quiet


def save_network(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write a transformers folder, or PEFT's where the model is an adapter on its base, with the tokenizer.

    An adapter's folder holds the network's config in `network`, since the names of its labels stand nowhere in PEFT's;
    beside the adapter, transformers would take it for a whole model's.
    """
    network: Any = model
    plain = copy.deepcopy(tokenizer)
    plain.backend_tokenizer.no_truncation()  # of the last call, which would be written as its setting
    plain.backend_tokenizer.no_padding()
    with quiet():
        network.save_pretrained(folder)
        if not (folder / "config.json").is_file():
            network.config.save_pretrained(folder / "network")
        plain.save_pretrained(folder)
