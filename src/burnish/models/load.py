"""The one way to load a model: embedded, from a local folder, or from the hub; never with code from the model."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from burnish.errors import ModelError, near_miss
from burnish.models import embedded

logging.disable_progress_bar()
logging.set_verbosity_error()

_CODE_KEYS = ("auto_map", "trust_remote_code", "_attn_implementation", "_attn_implementation_internal", "kernels")
_CONFIGS = ("config.json", "tokenizer_config.json", "adapter_config.json", "generation_config.json")


def resolve(name: str) -> Path:
    """Return the folder of a model, downloaded from the hub where the name says so.

    Raises:
        ModelError: there is no such model, or its files would run code or hold pickled weights.
    """
    if name.startswith(embedded.PREFIX):
        return embedded.folder(name.removeprefix(embedded.PREFIX))
    path = Path(name).expanduser()
    if not path.is_dir():
        path = _from_hub(name)
    _refuse_code(path)
    return path


def load_causal(name: str, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a causal model, or an adapter on its base, in evaluation mode, and its tokenizer."""
    path = resolve(name)
    if not (path / "adapter_config.json").is_file():
        return _checked(AutoModelForCausalLM, path, dtype), _tokenizer(path)
    base = PeftConfig.from_pretrained(path).base_model_name_or_path
    network: Any = _checked(AutoModelForCausalLM, resolve(str(base)), dtype)
    network = PeftModel.from_pretrained(network, path)
    return network.to(dtype).eval(), _tokenizer(
        path if (path / "tokenizer_config.json").is_file() else resolve(str(base))
    )


def load_transformer(name: str, *, dtype: torch.dtype) -> tuple[Path, nn.Module, Any]:
    """Return the folder, the bare transformer without a pooler, and the tokenizer of an encoder."""
    path = resolve(name)
    extra = (
        {"add_pooling_layer": False} if _config(path).get("model_type") in {"bert", "roberta", "xlm-roberta"} else {}
    )
    return path, _checked(AutoModel, path, dtype, **extra), _tokenizer(path)


def load_classifier(name: str, *, labels: list[str], dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a sequence classifier with a new head, its labels in its config, and its tokenizer."""
    path = resolve(name)
    network: Any = _checked(
        AutoModelForSequenceClassification,
        path,
        dtype,
        fresh=("score", "classifier", "pooler", "pre_classifier", "bert.pooler"),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    tokenizer = _tokenizer(path)
    if network.config.pad_token_id is None:
        network.config.pad_token_id = tokenizer.pad_token_id
    return network, tokenizer


def _checked(auto: Any, path: Path, dtype: torch.dtype, *, fresh: tuple[str, ...] = (), **extra: Any) -> nn.Module:
    """Load a network and see that every weight came from the folder, but for the new parts.

    Raises:
        ModelError: the folder is not a model of this kind, or weights are missing.
    """
    try:
        network, info = auto.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **extra
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: this model cannot be loaded: {str(error).splitlines()[0]}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(fresh or ("\0",)))
    if missing:
        raise ModelError(
            f"{path}: {len(missing)} weights that {type(network).__name__} needs are not in this model, "
            f"among them {missing[0]}; it is of another kind"
        )
    module: nn.Module = network.eval()
    return module


def _tokenizer(path: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _from_hub(name: str) -> Path:
    """Return the folder of a hub model, from the hub's cache or fetched.

    Raises:
        ModelError: it is no hub name, or is not to be had.
    """
    near = near_miss(name, [f"{embedded.PREFIX}{known}" for known in embedded.MODELS])
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"{name}: there is no such folder, and this is not a hub name (owner/name) or embedded/NAME.{near}"
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in {"0", ""}
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else "the hub does not have it or cannot be reached"
        raise ModelError(f"{name}: no such folder here, and {why}.{near}") from error


def _refuse_code(path: Path) -> None:
    """Refuse a folder whose settings would run code, or whose weights are pickled.

    Raises:
        ModelError: there is such a setting or file.
    """
    for name in _CONFIGS:
        found = _config(path, name)
        for key in _CODE_KEYS:
            if found.get(key):
                raise ModelError(f"{path / name}: {key!r} asks to run code or kernels from elsewhere; burnish does not")
    weights = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pkl")]
    if weights and not any(path.rglob("*.safetensors")):
        raise ModelError(f"{weights[0]}: pickled weights can run code; save the model as safetensors")
    if not any((path / name).is_file() for name in ("config.json", "adapter_config.json", "modules.json")):
        raise ModelError(f"{path}: this folder holds no model (no config.json or adapter_config.json)")


def _config(path: Path, name: str = "config.json") -> dict[str, Any]:
    if not (path / name).is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads((path / name).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path / name}: this is not JSON: {error.msg} in line {error.lineno}") from error
    return found
