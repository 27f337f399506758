"""Models found by name, checked before anything of them is read as code, and loaded whole or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from burnish.errors import ModelError, near_miss
from burnish.models import embedded
from burnish.models.adapted import base_of, put_on
from burnish.models.heads import heads, parts_below
from burnish.models.loading import first_line, loading, require_whole, safely
from burnish.models.quiet import quiet
from burnish.models.safety import read_settings, refuse_code, require_weights, transformer_folder
from burnish.models.unpadded import unpad

FETCHED_SETTINGS = ["*.json", "*.jinja", "*.txt", "*.model"]
FETCHED_WEIGHTS = ["*.safetensors"]
NOT_FETCHED = ["onnx/*", "openvino/*", "*.msgpack", "original/*"]
_AUTO_CAUSAL: Any = AutoModelForCausalLM  # untyped at the library's border
_AUTO_SEQ2SEQ: Any = AutoModelForSeq2SeqLM
_AUTO_ENCODER: Any = AutoModel
_AUTO_CLASSIFIER: Any = AutoModelForSequenceClassification
_AUTO_MASKED: Any = AutoModelForMaskedLM
_AUTO_SPAN_READER: Any = AutoModelForQuestionAnswering

Problem = Literal["single_label_classification", "multi_label_classification"]


class Headed(NamedTuple):
    """A model with a head."""

    model: Any
    tokenizer: Any
    fresh: tuple[str, ...]  # prefixes of the parameters that are new and untrained


def resolve(name: str) -> Path:
    """Return the folder of a model: `embedded/…`, a local folder, or a name on the model hub, which is fetched.

    Of a hub model, settings and safetensors files are fetched and nothing else: no code and no pickles. The settings
    are looked through before any weight is fetched.

    Raises:
        ModelError: there is no such model or folder, the hub cannot be reached, or the settings name code to run.
    """
    if name.startswith(embedded.PREFIX):
        folder = embedded.folder(name)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().absolute()
    elif _looks_local(name):
        raise ModelError(_missing(Path(name).expanduser(), name))
    else:
        refuse_code(_fetched(name, FETCHED_SETTINGS))
        folder = _fetched(name, FETCHED_SETTINGS + FETCHED_WEIGHTS)
    refuse_code(folder)
    return folder


def load_causal(name: str, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a causal language model and its tokenizer; of an adapter's folder, the base with the adapter on it.

    Raises:
        ModelError: it cannot be found, is no causal language model, is damaged, or would need code of its own.
    """
    return _load_writer(name, "a causal language model", _AUTO_CAUSAL, dtype=dtype)


def load_seq2seq(name: str, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return an encoder-decoder that writes text, and its tokenizer; of an adapter's folder, the base with it.

    Raises:
        ModelError: it cannot be found, is no encoder-decoder, is damaged, or would need code of its own.
    """
    return _load_writer(name, "an encoder-decoder", _AUTO_SEQ2SEQ, dtype=dtype)


def load_writer(name: str, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a model that writes text, of either kind, and its tokenizer.

    Raises:
        ModelError: it cannot be found, writes no text, is damaged, or would need code of its own.
    """
    return (load_seq2seq if is_encoder_decoder(name) else load_causal)(name, dtype=dtype)


def is_encoder_decoder(name: str) -> bool:
    """Tell whether a model, or the base of an adapter, has an encoder and a decoder."""
    folder = resolve(name)
    found = base_of(folder)
    return is_encoder_decoder(found) if found else bool(read_settings(folder / "config.json").get("is_encoder_decoder"))


def load_transformer(name: str, *, dtype: torch.dtype) -> tuple[Path, Any, Any]:
    """Return an encoder's folder, its network without any head, and its tokenizer.

    BERT's pooler is left out too: nothing here reads or trains it.

    Raises:
        ModelError: it cannot be found, is an encoder-decoder or an adapter, is damaged, or would need code of its own.
    """
    folder = resolve(name)
    what = "a text encoder"
    if base_of(folder):
        raise ModelError(f"{name}: this is an adapter, and a text encoder is needed; merge it into its base first")
    inner = transformer_folder(folder)
    require_weights(inner, "model")
    with loading(name, what):
        model, info = _AUTO_ENCODER.from_pretrained(inner, **safely(dtype))
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"{name}: a text encoder is needed, and this is an encoder-decoder ({model.config.model_type})"
        )
    own = {part for part, _ in model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    others = [key for key in info["unexpected_keys"] if key.removeprefix(prefix).split(".")[0] not in own]
    missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    require_whole(name, what, missing=missing, unexpected=set(info["unexpected_keys"]) - {*others})
    if "pooler" in dict(model.named_children()):
        model.pooler = None
    model.config.use_cache = False
    unpad(model)
    return folder, model, load_tokenizer(name, inner)


def load_classifier(
    name: str,
    labels: Sequence[str],
    *,
    dtype: torch.dtype,
    seed: int,
    problem: Problem = "single_label_classification",
) -> Headed:
    """Return a model that scores the labels, in their order; a head that was trained for the same labels is kept.

    seed: of the weights of a new head.

    Raises:
        ModelError: it cannot be found, has no form with a classification head, or is damaged.
    """

    def prepare(config: Any) -> bool:
        known = (list(config.id2label.values()), config.problem_type or "single_label_classification")
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        config.problem_type = problem
        return known == (list(labels), problem)

    return _load_headed(name, "a classifier", _AUTO_CLASSIFIER, prepare, dtype=dtype, seed=seed)


def load_regressor(name: str, *, dtype: torch.dtype, seed: int, what: str = "a regression model") -> Headed:
    """Return a model that gives a text one number; a trained head of one output is kept.

    seed: of the weights of a new head. what: what messages call it.

    Raises:
        ModelError: it cannot be found, has no form with such a head, or is damaged.
    """

    def prepare(config: Any) -> bool:
        one = len(config.id2label) == 1
        config.id2label, config.label2id = {0: "score"}, {"score": 0}
        config.problem_type = "regression"
        return one

    return _load_headed(name, what, _AUTO_CLASSIFIER, prepare, dtype=dtype, seed=seed)


def load_span_reader(name: str, *, dtype: torch.dtype, seed: int) -> Headed:
    """Return a model that scores each token as the start and as the end of an answer; a trained head is kept.

    seed: of the weights of a new head.

    Raises:
        ModelError: it cannot be found, has no form with such a head, or is damaged.
    """

    def prepare(config: Any) -> bool:
        config.id2label, config.label2id = {0: "start", 1: "end"}, {"start": 0, "end": 1}
        return True  # other heads have other names

    return _load_headed(name, "a reader of answer spans", _AUTO_SPAN_READER, prepare, dtype=dtype, seed=seed)


def load_masked(name: str, *, dtype: torch.dtype, seed: int) -> Headed:
    """Return an encoder that guesses hidden tokens; its trained head is kept.

    seed: of the weights of a new head, as far as they are not the embeddings.

    Raises:
        ModelError: it cannot be found, has no form with such a head, or is damaged.
    """
    return _load_headed(name, "a masked language model", _AUTO_MASKED, lambda _: True, dtype=dtype, seed=seed)


def load_tokenizer(name: str, folder: Path) -> Any:
    """Return the folder's tokenizer; one without a token for padding pads with the end of text.

    Raises:
        ModelError: there is none, or it is not of the fast kind.
    """
    with loading(name, "a tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: its tokenizer is not of the fast kind (no tokenizer.json); convert it first")
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_writer(name: str, what: str, auto: Any, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a model that writes text, whole, with its adapter if it is one, and its tokenizer.

    Raises:
        ModelError: it cannot be found, has no such form, or is damaged.
    """
    folder = resolve(name)
    if base := base_of(folder):
        with _on_base(name):
            below, tokenizer = _load_writer(base, what, auto, dtype=dtype)
        with loading(name, f"an adapter of {base}"):
            model = put_on(below, folder)
        return model, load_tokenizer(name, folder) if (folder / "tokenizer_config.json").is_file() else tokenizer
    require_weights(folder, "model")
    with loading(name, what):
        model, info = auto.from_pretrained(folder, **safely(dtype))
    require_whole(name, what, missing=info["missing_keys"], unexpected=info["unexpected_keys"])
    _require_one_way(name, what, model)
    return model, load_tokenizer(name, folder)


def _require_one_way(name: str, what: str, model: Any) -> None:
    """Check that no place of a text sees the words behind it: who sees what is to be written learns to copy it.

    Raises:
        ModelError: the network is an encoder with an output layer.
    """
    config = model.config.to_dict()
    reads_both_ways = config["model_type"] in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder")
    if reads_both_ways and not model.config.is_encoder_decoder:
        raise ModelError(
            f"{name}: {what} is needed, and this is an encoder ({config['model_type']}), which sees what stands behind "
            "each place; use a decoder or an encoder-decoder"
        )


@contextmanager
def _on_base(name: str) -> Iterator[None]:
    """Say of which adapter it is the base that cannot be used.

    Raises:
        ModelError: the base cannot be loaded.
    """
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{name}: the base of this adapter cannot be used: {error}") from error


def _load_headed(
    name: str, what: str, auto: Any, prepare: Callable[[Any], bool], *, dtype: torch.dtype, seed: int
) -> Headed:
    """Return the model in the form of an auto class, its head kept where it fits, or drawn from the seed.

    prepare: writes into the config what the head is for, and tells whether a trained one may be kept.

    Raises:
        ModelError: it cannot be found, has no such form, or its base is damaged.
    """
    folder = resolve(name)
    if base := base_of(folder):
        with _on_base(name):
            under = _load_headed(base, what, auto, prepare, dtype=dtype, seed=seed)
        with loading(name, f"an adapter of {base}"):
            return Headed(put_on(under.model, folder), under.tokenizer, ())
    inner = transformer_folder(folder)
    require_weights(inner, "model")
    tokenizer = load_tokenizer(name, inner)
    with loading(name, what), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config: Any = AutoConfig.from_pretrained(inner)
        fits = prepare(config)
        config.pad_token_id = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
        model, info = auto.from_pretrained(inner, config=config, ignore_mismatched_sizes=not fits, **safely(dtype))
        new = auto.from_config(config)
    below = parts_below(model)
    pooler = f"{below[0]}pooler."
    lacking, unread = (
        [key for key in info[kind] if key.startswith(below) and not key.startswith(pooler)]
        for kind in ("missing_keys", "unexpected_keys")
    )
    names = [key for key, _ in model.named_parameters()]
    whole = {key for key in names if key.startswith(below) and not key.startswith(pooler)}
    lost = f". {type(model).__name__} finds none of its base there; use an encoder or an encoder-decoder"
    require_whole(name, what, missing=lacking, unexpected=unread, advice=lost if whole <= {*lacking} else "")
    unpad(model)
    if fits and not info["missing_keys"]:
        return Headed(model, tokenizer, ())
    untrained = heads(model, below)
    if any(key.startswith(pooler) for key in info["missing_keys"]):
        untrained = (*untrained, pooler)
    own = {key for key in names if key.startswith(untrained)}  # a tied weight is its base's
    model.load_state_dict({key: new.state_dict()[key].to(dtype) for key in own}, strict=False)
    return Headed(model, tokenizer, untrained)


def _fetched(name: str, patterns: list[str]) -> Path:
    """Return the folder of a hub model with the files of these patterns.

    Raises:
        ModelError: the hub does not have it, or cannot be reached and nothing was fetched before.
    """
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=NOT_FETCHED))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"{name}: this is neither a local folder nor an embedded model "
            f"({', '.join(embedded.PREFIX + known for known in embedded.MODELS)}), and the model hub did not give it: "
            f"{first_line(error)}"
        ) from error


def _looks_local(name: str) -> bool:
    """Tell whether a name that is no folder was meant as one; a hub name is `model` or `owner/model`."""
    path = Path(name).expanduser()
    written_as_path = name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name
    return written_as_path or path.exists() or ("/" in name and path.parent.is_dir())


def _missing(path: Path, name: str) -> str:
    """Return what to say of a path that is no folder."""
    if path.exists():
        return f"{name}: a model is a folder, and this is a file"
    siblings = [found.name for found in path.parent.iterdir() if found.is_dir()] if path.parent.is_dir() else []
    return f"{name}: there is no such model folder.{near_miss(path.name, siblings)}"
