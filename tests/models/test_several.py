"""Adapters that share a backbone, against each of them alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.models.load import load_causal
from burnish.models.several import Several

IDS = torch.arange(5, 17).view(4, 3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("base"))


def adapter(base: Path, folder: Path, kind: str, seed: int) -> Path:
    """Save an adapter whose weights were moved at random."""
    network, _ = load_causal(str(base), dtype=torch.float32)
    model: Any = Method.read(kind).apply(network)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    model.save_pretrained(folder)
    return folder


def alone(base: Path, folder: Path | None) -> Tensor:
    """Return the logits of the last token with one adapter, loaded by PEFT."""
    network, _ = load_causal(str(base), dtype=torch.float32)
    model: Any = network if folder is None else PeftModel.from_pretrained(network, str(folder))
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=IDS).logits[:, -1]
    return logits


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")  # PEFT's call of transformers
@pytest.mark.parametrize("kind", ["lora", "ia3", "prompt", "prefix"])
def test_a_mixed_batch_gives_each_row_what_its_adapter_gives_alone(kind: str, base: Path, tmp_path: Path):
    folders = {name: adapter(base, tmp_path / name, kind, seed) for seed, name in enumerate(("law", "code"))}
    network, _ = load_causal(str(base), dtype=torch.float32)
    several = Several(network, folders)
    names = ["code", None, "law", "code"]

    def run(model: Any, places: list[int]) -> list[Tensor]:
        with torch.no_grad():
            return list(model(input_ids=IDS[places]).logits[:, -1])

    found = several.mixed(names, run)
    each = {None: alone(base, None), **{name: alone(base, folder) for name, folder in folders.items()}}
    assert not torch.allclose(each["law"], each["code"])
    for place, name in enumerate(names):
        torch.testing.assert_close(found[place], each[name][place], rtol=1e-4, atol=1e-4)


def test_what_cannot_share_a_backbone_is_refused(base: Path, tmp_path: Path):
    lora, ia3 = (adapter(base, tmp_path / kind, kind, 0) for kind in ("lora", "ia3"))
    network, _ = load_causal(str(base), dtype=torch.float32)
    with pytest.raises(ModelError, match="of one kind; here a is LORA, b is IA3"):
        Several(network, {"a": lora, "b": ia3})
    with pytest.raises(ModelError, match="name at least one adapter"):
        Several(network, {})
    with pytest.raises(ModelError, match="adapter 'a' is no PEFT adapter"):
        Several(network, {"a": base})
    several = Several(network, {"laws": lora})
    with pytest.raises(ModelError, match=r"no adapter is called .lawz.\. Did you mean .laws."), several.using("lawz"):
        pass
