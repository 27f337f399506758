"""Adapters on their base: which folder is one, what it stands on, and putting it there whole."""

import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from burnish.additions.form import Form, misfits
from burnish.errors import ModelError
from burnish.methods import adapters, prefix
from burnish.models import embedded
from burnish.models.safety import read_settings, require_weights

PEFT = "adapter_config.json"
OURS: tuple[Form[Any], ...] = (adapters.FORM, prefix.FORM)  # formats of our own
_ORIGIN = {PEFT: "base_model_name_or_path", **{form.config: "base" for form in OURS}}  # which key names the base


def base_of(folder: Path) -> str | None:
    """Return the name of the model that a folder's adapter stands on, or None where the folder holds no adapter.

    Raises:
        ModelError: it is an adapter, and does not name its base.
    """
    for file, key in _ORIGIN.items():
        if (folder / file).is_file():
            origin = read_settings(folder / file).get(key)
            if not isinstance(origin, str) or not origin:
                raise ModelError(f"{folder / file}: {key!r} must name the base model")
            return origin if Path(origin).is_dir() else embedded.name_of(origin) or origin
    return None


def begin_from(model: Any, folder: Path) -> None:
    """Give the adapter that a method has just put on a model the numbers of a saved one, of the same kind and size.

    Raises:
        ModelError: the folder holds none, the model has none, or the two do not fit.
    """
    if base_of(folder) is None:
        raise ModelError(f"{folder}: this holds no adapter to start from; a whole model goes into `model`")
    form = next((form for form in OURS if form.is_on(model)), None)
    if form:
        form.begin(model, folder)
        return
    if not isinstance(model, PeftModel) or not (folder / PEFT).is_file():
        kind = "an adapter of another method" if isinstance(model, PeftModel) else "no adapter of its own"
        raise ModelError(f"start: {folder}: the method of this recipe makes {kind}, so it cannot begin with this one")
    require_weights(folder, "adapter_model")
    ours = str(getattr(model.peft_config["default"].peft_type, "value", ""))
    theirs = read_settings(folder / PEFT).get("peft_type")
    if ours != theirs:
        raise ModelError(f"start: {folder}: this is an adapter of {theirs}, and the method of this recipe makes {ours}")
    weights = load_file(folder / "adapter_model.safetensors")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = misfits(weights, own, place="model")
    if wrong:
        raise ModelError(f"start: {folder}: this adapter does not fit: {'; '.join(wrong[:3])}{' …' * (len(wrong) > 3)}")
    set_peft_model_state_dict(model, weights)


def put_on(base: Any, folder: Path, *, name: str = "default") -> Any:
    """Return the base with the folder's adapter on it, and with the new parts that were trained with it.

    base: a network, or one that has PEFT adapters already. name: what PEFT calls the adapter.

    Raises:
        ModelError: the adapter does not fit the base, or is damaged.
    """
    for form in OURS:
        if (folder / form.config).is_file():
            form.load(base, folder)
            return base
    require_weights(folder, "adapter_model")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # an error, below
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by names that are going to change
        if isinstance(base, PeftModel):
            base.load_adapter(str(folder), adapter_name=name)
            model = base
        else:
            model = PeftModel.from_pretrained(base, str(folder), adapter_name=name)
    expected = set(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        found = {key for key in file.keys() if "embed" not in key and "lm_head" not in key}  # noqa: SIM118
    missing = {key for key in expected if "embed" not in key and "lm_head" not in key} - found
    faults = [
        f"{', '.join(sorted(keys)[:3])}{' …' if len(keys) > 3 else ''} {how}"
        for keys, how in ((missing, "is missing from the file"), (found - expected, "has no place in the network"))
        if keys
    ]
    if faults:
        raise ModelError(f"{folder}: this does not fit as an adapter of {base.name_or_path}: {'; '.join(faults)}")
    return model
