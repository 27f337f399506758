"""Every method on an encoder with a new head, a decoder and an encoder-decoder."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM

import tiny
from burnish.errors import ModelError
from burnish.methods import Method, adapters, prefix
from burnish.models.load import load_causal, load_classifier, load_tokenizer
from burnish.models.quiet import quiet
from burnish.tasks import Built
from burnish.tasks.generate import Generate

IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [7, 5, 11, 12, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
WRITTEN = torch.tensor([[0, 6, 9, 12], [0, 30, 9, 1]])
LABELS = ("a", "b", "c")
SOME = {"bert": ("key", "value"), "llama": ("v_proj", "mlp.down_proj"), "t5": ("SelfAttention.q", "wo")}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "bitfit": {"kind": "bitfit"},
    "lora": {"kind": "lora", "rank": 4},
    "lora-some": {"kind": "lora", "rank": 4, "b_rate": 16, "target_modules": SOME},
    "rank-stabilized": {"kind": "lora", "rank": 4, "rank_stabilized": True},
    "dora": {"kind": "lora", "rank": 4, "dora": True},
    "pissa": {"kind": "lora", "rank": 4, "init": "pissa"},
    "pissa-rank-stabilized": {"kind": "lora", "rank": 4, "init": "pissa", "rank_stabilized": True},
    "pissa-dora": {"kind": "lora", "rank": 4, "init": "pissa", "dora": True},
    "ia3": {"kind": "ia3"},
    "prefix": {"kind": "prefix", "length": 6},
    "prefix-reparametrized": {"kind": "prefix", "length": 6, "reparametrize": 8},
    "prompt": {"kind": "prompt", "length": 6},
    "prompt-vocabulary": {"kind": "prompt", "length": 6, "init": "vocabulary"},
    "houlsby": {"kind": "adapters", "variant": "houlsby"},
    "pfeiffer": {"kind": "adapters", "variant": "pfeiffer"},
    "parallel": {"kind": "adapters", "variant": "parallel"},
}
UNFIT = {"bitfit": ("llama", "t5")}
NO_MLP = [("prefix-reparametrized", "bert"), ("prefix-reparametrized", "t5")]
ONCE = {"rank-stabilized": "t5", "pissa-rank-stabilized": "bert", "pissa-dora": "llama", "prompt-vocabulary": "t5"}
CASES = [
    (name, kind)
    for name in SETTINGS
    for kind in ("bert", "llama", "t5")
    if kind not in UNFIT.get(name, ()) and kind in ONCE.get(name, kind) and (name, kind) not in NO_MLP
]
BEFORE_KEYS = [case for case in CASES if case[0] == "prefix" and case[1] != "llama"]  # not in PEFT's format
PEFT = [
    case
    for case in CASES
    if SETTINGS[case[0]]["kind"] in ("lora", "ia3", "prefix", "prompt") and case not in BEFORE_KEYS
]
ADDED = [case for case in CASES if SETTINGS[case[0]]["kind"] in ("lora", "ia3", "adapters")]
MERGED = [case for case in CASES if SETTINGS[case[0]]["kind"] in ("lora", "ia3")]
OURS = [*(case for case in CASES if SETTINGS[case[0]]["kind"] == "adapters"), *BEFORE_KEYS]
FORMS = {"adapters": adapters.FORM, "prefix": prefix.FORM}


class Backbone(NamedTuple):
    """A network as it was loaded, never changed itself, and its new parts."""

    kind: str
    network: Any
    fresh: tuple[str, ...]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    folder = tmp_path_factory.mktemp("models")
    bert, _, fresh = load_classifier(
        str(tiny.tiny_bert(folder / "bert", head=True)), LABELS, dtype=torch.float32, seed=0
    )
    llama, _ = load_causal(str(tiny.tiny_llama(folder / "llama")), dtype=torch.float32)
    with quiet():
        t5 = AutoModelForSeq2SeqLM.from_pretrained(tiny.tiny_t5(folder / "t5"))
    found = {"bert": (bert, fresh), "llama": (llama, ()), "t5": (t5, ())}
    return {kind: Backbone(kind, network.eval(), new) for kind, (network, new) in found.items()}


def adapted(name: str, backbone: Backbone, *, moved: bool = False) -> Any:
    """Return a network with a method on it; its weights moved a little, as by training."""
    torch.manual_seed(0)
    settings = dict(SETTINGS[name])
    if "target_modules" in settings:
        settings["target_modules"] = settings["target_modules"][backbone.kind]
    model: Any = Method.read(settings).apply(copy.deepcopy(backbone.network), fresh=backbone.fresh).eval()
    if moved:
        _move(model)
    return model


def untrained(backbone: Backbone) -> Any:
    """Return the network that something saved is loaded into: its new parts are other than before."""
    network = copy.deepcopy(backbone.network)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(backbone.fresh):
                weight.zero_()
    return network


@torch.no_grad()
def _move(model: nn.Module) -> None:
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn_like(weight), alpha=0.1)


def outputs(model: Any, kind: str) -> Tensor:
    """Return the logits for two rows, one of them padded."""
    written = {"decoder_input_ids": WRITTEN} if kind == "t5" else {}
    with quiet():
        logits: Tensor = model(input_ids=IDS, attention_mask=MASK, **written).logits
    return logits[:, -IDS.shape[1] :][MASK.bool()] if kind == "llama" else logits


def total_loss(model: nn.Module, backbone: Backbone) -> Tensor:
    if backbone.kind == "llama":
        task = Generate()
        built = Built(backbone.network, load_tokenizer("tiny", Path(backbone.network.name_or_path)))
        return task.total_loss(model, task.collate(task.encode(tiny.completions(4), built).items))
    logits = outputs(model, backbone.kind)
    return functional.cross_entropy(logits.flatten(0, -2), torch.arange(logits.numel() // logits.shape[-1]) % 3)


@pytest.mark.parametrize(("name", "kind"), ADDED)
@torch.no_grad()  # with gradients, torch multiplies by a frozen matrix in another order
def test_a_network_with_something_added_starts_as_itself(name: str, kind: str, backbones: dict[str, Backbone]):
    before = outputs(backbones[kind].network, kind)
    after = outputs(adapted(name, backbones[kind]), kind)
    if "pissa" in name:  # W = (W − BA) + BA but for rounding
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(after, before)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_trainable_weight_gets_a_gradient(name: str, kind: str, backbones: dict[str, Backbone]):
    model = adapted(name, backbones[kind], moved=True)
    total_loss(model, backbones[kind]).backward()
    still = [key for key, w in model.named_parameters() if w.requires_grad and (w.grad is None or not w.grad.any())]
    assert [key for key in still if not key.endswith("key.bias")] == []  # the softmax over keys does not see it


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case[0] != "full"])
def test_a_method_trains_the_new_parts_and_few_others(name: str, kind: str, backbones: dict[str, Backbone]):
    model = adapted(name, backbones[kind])
    moving = {key: weight.numel() for key, weight in model.named_parameters() if weight.requires_grad}
    assert 0 < sum(moving.values()) < sum(weight.numel() for weight in backbones[kind].network.parameters())
    assert any("classifier" in key and key.endswith("weight") for key in moving) == (kind == "bert")


@pytest.mark.parametrize(("name", "kind"), PEFT)
@torch.no_grad()
def test_what_is_saved_loads_in_peft_with_equal_outputs(
    name: str, kind: str, backbones: dict[str, Backbone], tmp_path: Path
):
    model = adapted(name, backbones[kind], moved=True)
    with quiet():
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(untrained(backbones[kind]), str(tmp_path)).eval()
    ours = outputs(model, kind)
    assert not torch.allclose(ours, outputs(backbones[kind].network, kind), atol=1e-2)
    if "pissa" in name:
        torch.testing.assert_close(outputs(loaded, kind), ours, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(outputs(loaded, kind), ours)


@pytest.mark.parametrize(("name", "kind"), MERGED)
@torch.no_grad()
def test_a_merged_network_computes_the_same(name: str, kind: str, backbones: dict[str, Backbone]):
    model = adapted(name, backbones[kind], moved=True)
    before = outputs(model, kind)
    merged = model.merge_and_unload()
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(outputs(merged, kind), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), OURS)
@torch.no_grad()
def test_what_is_saved_in_our_formats_loads_with_equal_outputs(
    name: str, kind: str, backbones: dict[str, Backbone], tmp_path: Path
):
    model, form = adapted(name, backbones[kind], moved=True), FORMS[SETTINGS[name]["kind"]]
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {form.config, form.weights}
    loaded = untrained(backbones[kind])
    form.load(loaded, tmp_path)
    assert torch.equal(outputs(loaded, kind), outputs(model, kind))


@pytest.mark.parametrize(("name", "kind"), [*OURS, ("pissa", "llama")])
@torch.no_grad()
def test_a_copy_is_saved_with_its_own_weights(name: str, kind: str, backbones: dict[str, Backbone], tmp_path: Path):
    model = adapted(name, backbones[kind], moved=True)
    other = copy.deepcopy(model)
    _move(other)
    expected = outputs(other, kind)
    assert not torch.allclose(expected, outputs(model, kind), atol=1e-2)
    other.save_pretrained(tmp_path)
    loaded = untrained(backbones[kind])
    if name == "pissa":
        loaded = PeftModel.from_pretrained(loaded, str(tmp_path))
    else:
        FORMS[SETTINGS[name]["kind"]].load(loaded, tmp_path)
    torch.testing.assert_close(outputs(loaded, kind), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "kind"), NO_MLP)
def test_an_mlp_is_refused_where_peft_has_no_place_for_it(name: str, kind: str, backbones: dict[str, Backbone]):
    with pytest.raises(ModelError, match=r"reparametrize, .*, is PEFT's, for causal language models, and \w+ is none"):
        adapted(name, backbones[kind])


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in UNFIT.items() for kind in kinds])
def test_a_network_that_does_not_fit_is_refused(name: str, kind: str, backbones: dict[str, Backbone]):
    with pytest.raises(ModelError, match=rf"method {SETTINGS[name]['kind']} .*For.* Use lora or full"):
        adapted(name, backbones[kind])
