"""The folder of a late-interaction model, as sentence-transformers 6 lays it out: what is read of it, and written."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError, model_validator

from burnish.errors import ModelError
from burnish.models.loading import first_line
from burnish.models.safety import read_modules, read_settings
from burnish.text import TextFormat

_BASE = "sentence_transformers.base.modules"
_TYPES = {
    "Transformer": f"{_BASE}.transformer.Transformer",
    "Dense": f"{_BASE}.dense.Dense",
    "MultiVectorMask": "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
    "Normalize": f"{_BASE}.normalize.Normalize",
}
_TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
_PLAIN = "torch.nn.modules.linear.Identity"
_LENGTHS = ("query_length", "document_length")


class LateFormat(TextFormat):
    """How queries and passages become model input, and which of their tokens are compared.

    skipped_words: tokens of a passage that no query token is compared with, each one entry of the vocabulary.
    expand_to: a query of fewer tokens is filled up to so many with mask tokens, which are compared too (query
    expansion, Khattab & Zaharia 2020); 0 adds none. expansion_token: what is filled in instead of the mask token.
    attend: whether the other tokens see those that were filled in. mean: scores are divided by the query's tokens.
    """

    skipped_words: tuple[str, ...] = ()
    expand_to: int = Field(default=0, ge=0)
    expansion_token: str | None = None
    attend: bool = False
    mean: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "LateFormat":
        if self.expand_to > self.query_tokens:
            raise ValueError(
                f"queries are filled up to {self.expand_to} tokens, and cut after {self.query_tokens}; "
                "raise query_tokens"
            )
        return self


class LateReading(NamedTuple):
    """What a folder says of its model beside the transformer."""

    form: LateFormat
    projection: Path | None  # the folder of the linear layer's weights


def read_late_layout(folder: Path) -> LateReading | None:
    """Return how a folder's late-interaction model reads texts; None where it is a model of another kind.

    Raises:
        ModelError: it does something between text and score that burnish would leave out.
    """
    said = _settings(folder / "config_sentence_transformers.json")
    _refuse_older(folder, said)
    if not (folder / "modules.json").is_file():
        return None
    listed = read_modules(folder / "modules.json")
    modules = {module["type"].rsplit(".", 1)[-1]: module for module in listed}
    if "MultiVectorMask" not in modules:
        return None
    foreign = [m["type"] for m in listed if m["type"].rsplit(".", 1)[-1] not in _TYPES or _is_foreign(m["type"])]
    if foreign or len(modules) < len(listed):
        found = ", ".join(foreign) or "the same part twice"
        raise ModelError(
            f"{folder / 'modules.json'}: this late-interaction model has a part that burnish does not know: {found}. "
            f"It knows {', '.join(_TYPES)}, each once"
        )
    if "Normalize" not in modules:
        raise ModelError(f"{folder}: this model compares token vectors that are not of unit length; burnish does not")
    mask = _settings(folder / modules["MultiVectorMask"]["path"] / "config.json")
    if mask.get("keep_only_token_ids") or mask.get("skiplist_tasks", ["document"]) != ["document"]:
        raise ModelError(
            f"{folder / modules['MultiVectorMask']['path']}: this model leaves tokens out in a way that burnish does "
            "not know; it knows `skiplist_words` in documents"
        )
    try:
        form = _form(said, _settings(folder / "sentence_bert_config.json"), mask)
    except (ValidationError, TypeError, ValueError) as error:
        raise ModelError(f"{folder}: how this model reads texts cannot be understood: {first_line(error)}") from error
    return LateReading(form, _projection(folder, modules["Dense"]["path"]) if "Dense" in modules else None)


def write_late_layout(folder: Path, form: LateFormat, *, shape: tuple[int, int] | None, pooler_left_out: bool) -> None:
    """Write everything but the transformer, its tokenizer and the projection's weights.

    shape: outputs and inputs of the projection, whose weights stand in `1_Dense`; None where there is none.
    pooler_left_out: as in `sentence_folder.write_layout`.
    """
    names = ["Transformer", *(["Dense"] if shape else []), "MultiVectorMask", "Normalize"]
    paths = {name: f"{place}_{name}" if place else "" for place, name in enumerate(names)}
    files: dict[str, object] = {
        "modules.json": [
            {"idx": place, "name": str(place), "path": paths[name], "type": _TYPES[name]}
            for place, name in enumerate(names)
        ],
        "config_sentence_transformers.json": {
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": form.query_prefix, "document": form.passage_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "meanmaxsim" if form.mean else "maxsim",
        },
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
            **dict(zip(_LENGTHS, (form.query_tokens, form.passage_tokens), strict=True)),
            **({"query_expansion": _expansion(form)} if form.expand_to else {}),
            **({"model_args": {"add_pooling_layer": False}} if pooler_left_out else {}),
        },
        f"{paths['MultiVectorMask']}/config.json": {
            "skiplist_words": list(form.skipped_words),
            "skiplist_tasks": ["document"],
            "keep_only_token_ids": None,
        },
        f"{paths['Normalize']}/config.json": _TOKENS,
    }
    if shape:
        linear = {"in_features": shape[1], "out_features": shape[0], "bias": False, "activation_function": _PLAIN}
        files["1_Dense/config.json"] = {**linear, **_TOKENS}
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _expansion(form: LateFormat) -> dict[str, object]:
    """Return the fill as sentence-transformers says it: "min" fills short queries, and leaves long ones whole."""
    return {"strategy": "min", "attend": form.attend, "token": form.expansion_token, "length": form.expand_to}


def _is_foreign(kind: str) -> bool:
    return not kind.startswith("sentence_transformers.")


def _settings(path: Path) -> dict[str, Any]:
    return read_settings(path) if path.is_file() else {}


def _refuse_older(folder: Path, said: dict[str, Any]) -> None:
    """Refuse the formats that ColBERT's models had before.

    Raises:
        ModelError: the folder has one of them.
    """
    architectures = _settings(folder / "config.json").get("architectures") or []
    older = "PyLate" if said.get("model_type") == "ColBERT" else "Stanford's" if "HF_ColBERT" in architectures else ""
    if older:
        raise ModelError(
            f"{folder}: this late-interaction model is in {older} format; load it once with sentence-transformers "
            "(MultiVectorEncoder) and save it again"
        )


def _form(said: dict[str, Any], network: dict[str, Any], mask: dict[str, Any]) -> LateFormat:
    """Return the text format that the folder's files tell of."""
    prompts = {str(key): str(value or "") for key, value in (said.get("prompts") or {}).items()}
    plain = TextFormat()
    expansion = network.get("query_expansion") or {}
    floor = int(expansion.get("length") or 0)
    cut, passage_tokens = (network.get(key) for key in _LENGTHS)
    most = network.get("max_seq_length")
    fixed = expansion.get("strategy") == "fixed"
    return LateFormat(
        query_prefix=prompts.get("query", ""),
        passage_prefix=next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), ""),
        query_tokens=floor if fixed else max(floor, cut or min(plain.query_tokens, most or plain.query_tokens)),
        passage_tokens=passage_tokens or min(plain.passage_tokens, most or plain.passage_tokens),
        skipped_words=tuple(mask.get("skiplist_words") or ()),
        expand_to=floor,
        expansion_token=expansion.get("token"),
        attend=bool(expansion.get("attend")),
        mean=said.get("similarity_fn_name") == "meanmaxsim",
    )


def _projection(folder: Path, place: str) -> Path:
    """Return the folder of the projection.

    Raises:
        ModelError: it stands outside, or is more than a matrix.
    """
    path = folder / place
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder / 'modules.json'}: the path {place!r} leads out of the model's folder")
    said = _settings(path / "config.json")
    extra = [key for key, otherwise in (("bias", True), ("use_residual", False)) if said.get(key, otherwise)]
    activation = said.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation != _PLAIN:
        extra.append(str(activation))
    if said.get("module_input_name", "token_embeddings") != "token_embeddings":
        extra.append(f"input {said['module_input_name']}")
    if extra:
        raise ModelError(f"{path}: the projection of token vectors is a matrix alone, and this has {', '.join(extra)}")
    return path
