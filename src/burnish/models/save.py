"""Model folders that load without burnish."""

import copy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from burnish.errors import ModelError
from burnish.models.adapted import base_of
from burnish.models.load import load_writer, resolve
from burnish.models.quiet import quiet
from burnish.run import new_folder


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


def whole_generator(name: str, folder: Path) -> str:
    """Return a generator that further training can begin with: itself, or, of an adapter, a folder with it merged.

    Raises:
        ModelError: it is an adapter that is no update of weights.
    """
    if base_of(resolve(name)) is None:
        return name
    if not folder.is_dir():
        network, tokenizer = load_writer(name, dtype=torch.float32)
        outer: Any = network
        if not isinstance(network, PeftModel) or outer.active_peft_config.is_prompt_learning:
            raise ModelError(
                f"{name}: this adapter is no update of weights that could be merged; train with lora or full"
            )
        with new_folder(folder) as beside:
            save_network(outer.merge_and_unload(), tokenizer, beside)
    return str(folder)
