"""The folder layout of a sentence-transformers CrossEncoder: what burnish reads of it, and what it writes."""

import json
from pathlib import Path
from typing import Any

from burnish.errors import ModelError
from burnish.models.safety import read_modules, read_settings, require_one_network

_SETTINGS = "config_sentence_transformers.json"
_MODULES = "modules.json"
_PARTS = {  # what may stand in a folder: the network, and what makes a vector of its output and is not read here
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "",
    "Normalize": "",
}
_RAW = "torch.nn.modules.linear.Identity"  # sentence-transformers puts a sigmoid on one score where nothing is said


def require_readable(folder: Path) -> None:
    """Check that nothing stands between a pair of texts and its score that burnish would leave out.

    Raises:
        ModelError: the folder has a part that burnish does not know, or two networks, or puts a prompt before the
            texts.
    """
    require_one_network(folder)
    if (folder / _MODULES).is_file():
        types = [module["type"] for module in read_modules(folder / _MODULES)]
        foreign = [kind for kind in types if kind.rpartition(".")[2] not in _PARTS]
        foreign += [kind for kind in types if kind not in foreign and not kind.startswith("sentence_transformers.")]
        if foreign:
            raise ModelError(
                f"{folder / _MODULES}: this model has a part that burnish does not know: "
                f"{', '.join(kind.rpartition('.')[2] for kind in foreign)}. A re-ranker here is a network with a head "
                "of one output; one that scores by the words it would write is none"
            )
    said = read_settings(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    if said.get("default_prompt_name") and said.get("model_type") == "CrossEncoder":
        raise ModelError(
            f"{folder / _SETTINGS}: this model puts the prompt {said['default_prompt_name']!r} before its texts, and "
            "burnish would leave it out"
        )


def write_cross_layout(folder: Path) -> None:
    """Make a transformers folder, which stands there, a CrossEncoder's, whose `predict` gives the raw score.

    Versions before 6 read the last part from the network's own config.
    """
    files: dict[str, Any] = {
        _MODULES: [{"idx": 0, "name": "0", "path": "", "type": _PARTS["Transformer"]}],
        "sentence_bert_config.json": {
            "transformer_task": "sequence-classification",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "scores",
        },
        _SETTINGS: {"model_type": "CrossEncoder", "activation_fn": _RAW, "prompts": {}, "default_prompt_name": None},
        "config.json": {**read_settings(folder / "config.json"), "sentence_transformers": {"activation_fn": _RAW}},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
