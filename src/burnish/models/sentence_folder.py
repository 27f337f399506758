"""The folder layout of sentence-transformers: what burnish reads of it, and what it writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from burnish.errors import ModelError
from burnish.models.safety import read_modules, read_settings
from burnish.text import TextFormat

Pooling = Literal["mean", "cls", "last"]

_POOLING: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_FLAGS: dict[str, Pooling] = {  # how folders before version 6 say it
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}  # in what is written
_KNOWN = tuple(_PATHS)
MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
_NETWORK = "sentence_bert_config.json"  # beside a transformer
_OWN = "burnish.json"


class Reading(NamedTuple):
    """How an encoder makes one vector of a text."""

    pooling: Pooling
    form: TextFormat


def read_layout(folder: Path) -> Reading:
    """Return how the folder's encoder reads texts; a plain transformer pools by the mean.

    Raises:
        ModelError: it does something between text and vector that burnish would leave out.
    """
    if not (folder / MODULES).is_file():
        return Reading("mean", _form(folder, TextFormat()))
    return read_parts(folder, read_modules(folder / MODULES), said_in=folder / MODULES)


def read_parts(folder: Path, listed: Sequence[Mapping[str, str]], *, said_in: Path) -> Reading:
    """Return how an encoder reads texts that is made of these modules, each with its type and its path in the folder.

    said_in: the file that lists them, for messages.

    Raises:
        ModelError: they do something between text and vector that burnish would leave out.
    """
    modules = {module["type"].rsplit(".", 1)[-1]: module for module in listed}
    foreign = [name for name, module in modules.items() if not _is_known(name, module["type"])]
    if foreign:
        raise ModelError(
            f"{said_in}: this model has a part that burnish does not know: {', '.join(foreign)}. "
            f"It knows {', '.join(_KNOWN)}"
        )
    said = settings_of(folder / SETTINGS)
    similarity = said.get("similarity_fn_name")
    if "Normalize" not in modules and similarity not in (None, "cosine"):
        raise ModelError(
            f"{folder}: this model compares vectors by {similarity!r} without making them unit length; "
            "burnish compares vectors of unit length"
        )
    prompts = {str(key): str(value or "") for key, value in (said.get("prompts") or {}).items()}
    network = folder / modules["Transformer"]["path"] if "Transformer" in modules else folder
    length = settings_of(network / _NETWORK).get("max_seq_length")
    plain = TextFormat()
    form = TextFormat(
        query_prefix=prompts.get("query", ""),
        passage_prefix=next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), ""),
        query_tokens=min(plain.query_tokens, length or plain.query_tokens),
        passage_tokens=min(plain.passage_tokens, length or plain.passage_tokens),
    )
    place = modules["Pooling"]["path"] if "Pooling" in modules else _PATHS["Pooling"]
    return Reading(_pooling(folder / place / "config.json"), _form(folder, form))


def write_layout(folder: Path, reading: Reading, *, width: int, longest: int, pooler_left_out: bool) -> None:
    """Write everything but the transformer and its tokenizer, which stand in the folder itself.

    width: dimensions of a vector. longest: tokens that the transformer can read. pooler_left_out: the network is of a
    kind that has a pooler, and the weights come without one; so it is not built, instead of with random weights.
    """
    form = reading.form
    files: dict[str, object] = {
        MODULES: module_list(written_modules()),
        f"{_PATHS['Pooling']}/config.json": {
            "word_embedding_dimension": width,
            **{flag: mode == reading.pooling for flag, mode in _FLAGS.items()},
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        f"{_PATHS['Normalize']}/config.json": {},
        _NETWORK: {
            "max_seq_length": min(longest, max(form.query_tokens, form.passage_tokens)),
            "do_lower_case": False,
            **({"model_args": {"add_pooling_layer": False}} if pooler_left_out else {}),
        },
        **how_texts_are_read(form),
    }
    write_files(folder, files)


def written_modules() -> dict[str, str]:
    """Return the modules that a text goes through in what is written: their paths, and their types."""
    return {path: module_type(name) for name, path in _PATHS.items()}


def module_list(modules: Mapping[str, str]) -> list[dict[str, object]]:
    """Return what `modules.json` holds. modules: their paths, and their types."""
    return [
        {"idx": place, "name": str(place), "path": path, "type": kind}
        for place, (path, kind) in enumerate(modules.items())
    ]


def module_type(name: str) -> str:
    """Return the name of a module's class that every version of sentence-transformers reads."""
    return f"sentence_transformers.models.{name}"


def how_texts_are_read(form: TextFormat) -> dict[str, object]:
    """Return the files of a model's folder, with what they hold, that tell of its text format."""
    return {
        SETTINGS: {
            "prompts": {"query": form.query_prefix, "document": form.passage_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        _OWN: form.model_dump(),
    }


def write_files(folder: Path, files: Mapping[str, object]) -> None:
    """Write what each file of a folder holds, as JSON."""
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def settings_of(path: Path) -> dict[str, Any]:
    """Return what a settings file holds; nothing, where there is none."""
    return read_settings(path) if path.is_file() else {}


def _is_known(name: str, kind: str) -> bool:
    return name in _KNOWN and kind.startswith("sentence_transformers.")


def _pooling(path: Path) -> Pooling:
    """Return how a folder pools; mean, where it does not say.

    Raises:
        ModelError: it pools in a way that burnish does not know, or leaves the prompt's tokens out.
    """
    said = settings_of(path)
    if said.get("include_prompt") is False:
        raise ModelError(f"{path}: this model leaves its prompt out of the vector ('include_prompt'), burnish does not")
    named = said.get("pooling_mode")
    if named is None:
        found = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
        modes = [_FLAGS.get(key) for key in found] or ["mean"]
    else:
        found = [named] if isinstance(named, str) else list(named)
        modes = [_POOLING.get(key) for key in found]
    if len(modes) == 1 and modes[0] is not None:
        return modes[0]
    raise ModelError(f"{path}: pooling by {', '.join(found)} is not one of mean, cls, last")


def _form(folder: Path, otherwise: TextFormat) -> TextFormat:
    """Return the text format that burnish saved with the model, or the other where it saved none.

    Raises:
        ModelError: the file is not a text format.
    """
    path = folder / _OWN
    if not path.is_file():
        return otherwise
    try:
        return TextFormat.model_validate(read_settings(path))
    except ValidationError as error:
        raise ModelError(f"{path}: this is not a text format: {error.errors()[0]['msg']}") from error
