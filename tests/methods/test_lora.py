import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.methods.lora import Lora
from burnish.models.encode import Encoder
from burnish.models.load import load_causal
from burnish.models.quiet import quiet

IDS = torch.arange(5, 15)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def llama(base: Path) -> Any:
    return load_causal(str(base), dtype=torch.float32)[0]


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"rank": 16}, 2),
        ({"rank": 4}, 8),
        ({"rank": 4, "alpha": 4}, 1),
        ({"rank": 16, "rank_stabilized": True}, 2),
        ({"rank": 4, "rank_stabilized": True}, 2),
        ({"rank": 4, "rank_stabilized": True, "alpha": 6}, 3),
    ],
)
def test_the_update_is_scaled_by_alpha_and_rank(settings: dict[str, Any], scale: float, llama: Any):
    model: Any = Lora(**settings).apply(llama)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == pytest.approx(scale)


def test_only_the_targets_are_updated(llama: Any):
    model = Lora(target_modules=("q_proj", "mlp.up_proj")).apply(llama)
    moving = {name.split(".lora_")[0].rpartition(".")[2] for name, w in model.named_parameters() if w.requires_grad}
    assert moving == {"q_proj", "up_proj"}


def test_all_linear_layers_but_the_output_layer_are_targets_by_default(llama: Any):
    model = Lora().apply(llama)
    moving = {name.split(".lora_")[0].rpartition(".")[2] for name, w in model.named_parameters() if w.requires_grad}
    assert moving == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_target_that_the_network_lacks_is_an_error_also_beside_one_that_it_has(llama: Any):
    said = (
        r"no linear layer of LlamaForCausalLM is called 'q_porj'\. Did you mean 'q_proj'\? There are: down_proj, gate"
    )
    with pytest.raises(ModelError, match=said):
        Lora(target_modules=("k_proj", "q_porj")).apply(llama)


def test_b_has_its_own_rate(llama: Any):
    method = Lora(b_rate=16)
    names = [name for name, weight in method.apply(llama).named_parameters() if weight.requires_grad]
    factors = {name: method.rate_factor(name) for name in names}
    assert {name for name, factor in factors.items() if factor == 16} == {name for name in names if ".lora_B." in name}
    assert sorted(factors.values()) == [1] * 14 + [16] * 14
    assert {Lora().rate_factor(name) for name in names} == {1}


def test_pissa_has_a_rate_of_its_own_unless_one_is_said():
    assert Lora(init="pissa").learning_rate == 1e-4
    assert Method.read({"kind": "lora", "init": "pissa"}).learning_rate == 1e-4
    assert Lora(init="pissa", learning_rate=1e-3).learning_rate == 1e-3
    assert Lora().learning_rate == 1e-3
    with pytest.raises(ValidationError):
        Lora(init="pisa")  # type: ignore[arg-type]


def test_pissa_starts_from_the_largest_singular_values(base: Path, llama: Any):
    torch.manual_seed(0)
    rank, plain = 4, load_causal(str(base), dtype=torch.float32)[0]
    model: Any = Lora(rank=rank, init="pissa").apply(llama)
    for name in ("self_attn.k_proj", "mlp.down_proj"):
        weight = plain.get_submodule(f"model.layers.1.{name}").weight.detach()
        layer = model.base_model.model.get_submodule(f"model.layers.1.{name}")
        largest, rest = layer.get_delta_weight("default").detach(), layer.weight.detach()
        torch.testing.assert_close(largest + rest, weight, atol=1e-5, rtol=1e-5)
        smallest = torch.linalg.svdvals(weight)[rank:].norm().item()  # no matrix of this rank leaves less
        assert smallest <= rest.norm().item() < 1.01 * smallest


@pytest.mark.parametrize("stabilized", [False, True])
def test_pissa_is_saved_as_an_update_of_twice_the_rank(stabilized: bool, llama: Any, tmp_path: Path):
    model: Any = Lora(rank=4, init="pissa", rank_stabilized=stabilized).apply(llama)
    before = model.peft_config["default"].lora_alpha
    with quiet():
        model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"], config["inference_mode"]) == (8, True, True)
    assert config["lora_alpha"] == pytest.approx(before * (math.sqrt(2) if stabilized else 2))
    assert model.peft_config["default"].r == 4  # what still trains is as it was


def test_pissa_untrained_changes_nothing(base: Path, llama: Any, tmp_path: Path):
    with quiet():
        expected = load_causal(str(base), dtype=torch.float32)[0](input_ids=IDS).logits
        Lora(rank=4, init="pissa").apply(llama).save_pretrained(tmp_path)  # type: ignore[operator]
        loaded, _ = load_causal(str(tmp_path), dtype=torch.float32)
    assert isinstance(loaded, PeftModel)
    torch.testing.assert_close(loaded(input_ids=IDS).logits, expected, atol=1e-4, rtol=1e-4)


def test_pissa_needs_layers_as_large_as_its_rank(llama: Any):
    with pytest.raises(
        ModelError, match=r"takes 24 singular values .*k_proj of LlamaForCausalLM has 16; lower the rank"
    ):
        Lora(rank=24, init="pissa").apply(llama)


@pytest.mark.parametrize("settings", [{"rank_stabilized": True}, {"dora": True}, {"init": "pissa"}])
def test_a_retriever_is_saved_with_every_kind_of_update_in_its_weights(settings: dict[str, Any], tmp_path: Path):
    encoder: Any = Encoder.load(str(tiny.tiny_bert(tmp_path / "bert")), dtype=torch.float32)
    plain, _ = encoder.encode(["red cat", "blue dog"], max_tokens=8)
    model: Any = Lora(rank=4, **settings).apply(encoder)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    ours, _ = model.encode(["red cat", "blue dog"], max_tokens=8)
    model.save(tmp_path / "model")
    loaded, _ = Encoder.load(str(tmp_path / "model"), dtype=torch.float32).encode(["red cat", "blue dog"], max_tokens=8)
    assert not torch.allclose(ours, plain, atol=1e-3)
    torch.testing.assert_close(loaded, ours, atol=1e-5, rtol=0)


@pytest.mark.parametrize("init", ["zero", "pissa"])
def test_layers_that_keep_their_matrix_the_other_way_round_are_updated(init: str):
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
    network = GPT2LMHeadModel(config).eval()
    ids = torch.arange(8)[None]
    before = network(input_ids=ids).logits
    model: Any = Method.read({"kind": "lora", "rank": 4, "init": init}).apply(network)
    torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-5, rtol=1e-5)
