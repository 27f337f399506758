"""What a model folder may hold before any of it is loaded: plain settings, and weights that are no pickles."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.errors import ModelError

SETTINGS = ("config.json", "tokenizer_config.json", "adapter_config.json", "generation_config.json")
OWN_KERNELS = (
    *("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),  # attention
    *("grouped_mm", "batched_mm"),  # experts
)
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def refuse_code(folder: Path) -> None:
    """Look through the settings of a model folder for what makes libraries run code that came with the model.

    `auto_map` and `trust_remote_code` load Python files of the folder; an `_attn_implementation*` or
    `_experts_implementation*` that is not one of the library's own is fetched from the hub and run (CVE-2026-4372).

    Raises:
        ModelError: such a key is there, or a settings file is not JSON.
    """
    for path in sorted(path for name in SETTINGS for path in [folder / name, *folder.glob(f"*/{name}")]):
        if not path.is_file():
            continue
        for key, value in _entries(read_settings(path)):
            own = isinstance(value, bool) or value in OWN_KERNELS
            kernels = key.startswith(("_attn_implementation", "_experts_implementation")) and not own
            if value and (key in ("auto_map", "trust_remote_code") or kernels):
                raise ModelError(
                    f"{path}: {key!r} asks to run code that came with the model ({_short(value)}), and burnish never "
                    "does; use a model that transformers itself knows"
                )


def transformer_folder(folder: Path) -> Path:
    """Return where a sentence-transformers folder keeps its transformer: in itself, or in a folder of its own.

    Raises:
        ModelError: it names a place outside, or keeps several transformers.
    """
    modules = folder / "modules.json"
    if not modules.is_file():
        return folder
    require_one_network(folder)
    place = next((module["path"] for module in read_modules(modules) if module["type"].endswith(".Transformer")), "")
    inner = (folder / place).resolve()
    if not inner.is_relative_to(folder.resolve()):
        raise ModelError(f"{modules}: the path {place!r} leads out of the model's folder")
    return folder / place


def require_one_network(folder: Path) -> None:
    """Check that a folder does not hold two encoders, one for queries and one for passages.

    Raises:
        ModelError: it does.
    """
    modules = folder / "modules.json"
    if modules.is_file() and any(is_router(module) for module in read_modules(modules)):
        networks = sorted({str(path.parent) for path in folder.glob("*/*.safetensors")})
        raise ModelError(
            f"{folder}: this model has an encoder for queries and another for passages, and one network is needed "
            f"here. Name one of them: {', '.join(networks)}"
        )


def is_router(module: Mapping[str, str]) -> bool:
    """Tell whether a module of a sentence-transformers folder holds several encoders, and chooses one by the text."""
    return module["type"].startswith("sentence_transformers.") and module["type"].endswith(".Router")


def read_modules(path: Path) -> list[dict[str, str]]:
    """Return type and path of each module of a sentence-transformers folder, in their order.

    Raises:
        ModelError: the file is not a list of modules.
    """
    found = _read_json(path)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ModelError(f"{path}: a list of modules is needed here")
    return [{key: str(entry.get(key, "")) for key in ("type", "path")} for entry in found]


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a settings file of a model holds.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    found = _read_json(path)
    if not isinstance(found, dict):
        raise ModelError(f"{path}: a JSON object is needed here, and this is a {type(found).__name__}")
    return found


def _read_json(path: Path) -> Any:
    """Return what a JSON file of a model holds.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: this file of the model cannot be read as JSON: {error}") from error


def require_weights(folder: Path, stem: str) -> None:
    """Check that a folder holds settings and safetensors weights.

    Raises:
        ModelError: it does not; pickled weights are not loaded, since loading them can run code.
    """
    settings = "adapter_config.json" if stem.startswith("adapter") else "config.json"
    if not (folder / settings).is_file():
        inner = folder / "model"
        hint = f" Did you mean {inner}?" if (inner / settings).is_file() else ""
        raise ModelError(f"{folder}: this is not a model folder (no {settings}).{hint}")
    if any(folder.glob(f"{stem}*.safetensors")):
        return
    pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLED]
    if pickled:
        raise ModelError(
            f"{folder}: its weights are pickled ({', '.join(pickled[:3])}), and loading them can run code; "
            "convert them to safetensors first"
        )
    raise ModelError(f"{folder}: there are no weights here; {stem}.safetensors is needed")


def _entries(settings: object) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at any depth."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield str(key), value
            yield from _entries(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _entries(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
