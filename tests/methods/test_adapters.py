import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertModel,
)

import tiny
from burnish.errors import ModelError
from burnish.methods.adapters import FORM, Adapters, switched_off
from burnish.models.encode import Encoder
from burnish.models.load import Headed, load_causal, load_classifier
from burnish.models.quiet import quiet

IDS = torch.arange(5, 15)[None]
VARIANTS = ("houlsby", "pfeiffer", "parallel")
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


def llama(base: Path) -> Any:
    return load_causal(str(base), dtype=torch.float32)[0]


def bert(folder: Path, labels: str = "ab") -> Headed:
    return load_classifier(str(tiny.tiny_bert(folder)), list(labels), dtype=torch.float32, seed=0)


def moved(network: Any) -> Any:
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    return network


def places(network: nn.Module) -> list[str]:
    return [name.removesuffix(".bottleneck") for name, _ in network.named_modules() if name.endswith(".bottleneck")]


def bottleneck(layer: Any, values: Tensor, activation: Any) -> Tensor:
    """Return what a layer's adapter gives, written out."""
    inner = activation(values @ layer.bottleneck.down.weight.T + layer.bottleneck.down.bias)
    return inner @ layer.bottleneck.up.weight.T + layer.bottleneck.up.bias


def test_they_stand_behind_the_blocks_of_an_encoder(tmp_path: Path):
    ends = {"houlsby": ("attention.output.dense", "output.dense"), "pfeiffer": ("output.dense",)}
    for variant in VARIANTS:
        found = bert(tmp_path / variant)
        network = Adapters(variant=variant).apply(found.model, fresh=found.fresh)  # type: ignore[arg-type]
        wanted = [f"bert.encoder.layer.{n}.{end}" for n in range(2) for end in ends.get(variant, ("output.dense",))]
        assert places(network) == wanted


def test_they_stand_behind_the_blocks_of_a_decoder(base: Path):
    assert places(Adapters(variant="houlsby").apply(llama(base))) == [
        f"model.layers.{number}.{end}" for number in range(2) for end in ("self_attn.o_proj", "mlp.down_proj")
    ]
    assert places(Adapters().apply(llama(base))) == [f"model.layers.{number}.mlp.down_proj" for number in range(2)]


def test_they_stand_behind_every_attention_of_an_encoder_decoder(tmp_path: Path):
    with quiet():
        network = AutoModelForSeq2SeqLM.from_pretrained(tiny.tiny_t5(tmp_path))
    found = places(Adapters(variant="houlsby").apply(network))
    ends = [".".join(name.split(".")[-2:]) for name in found]
    assert {end: ends.count(end) for end in ends} == {
        "SelfAttention.o": 4,
        "DenseReluDense.wo": 4,
        "EncDecAttention.o": 2,
    }


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (
            GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)),
            ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj"],
        ),
        (
            DistilBertModel(DistilBertConfig(vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=32)),
            ["transformer.layer.0.attention.out_lin", "transformer.layer.0.ffn.lin2"],
        ),
        (
            ModernBertModel(
                ModernBertConfig(
                    vocab_size=20,
                    pad_token_id=0,
                    bos_token_id=1,
                    eos_token_id=2,
                    cls_token_id=1,
                    sep_token_id=2,
                    **SMALL,
                )
            ),
            ["layers.0.attn.Wo", "layers.0.mlp.Wo"],
        ),
    ],
)
@torch.no_grad()
def test_other_networks_are_understood_by_their_structure(network: Any, names: list[str]):
    before = network.eval()(input_ids=IDS)[0]
    adapted = Adapters(variant="houlsby").apply(network)
    assert places(adapted) == names
    assert torch.equal(adapted(input_ids=IDS)[0], before)
    assert not torch.allclose(moved(adapted)(input_ids=IDS)[0], before, atol=1e-3)


@pytest.mark.parametrize("variant", ["houlsby", "pfeiffer"])
@torch.no_grad()
def test_a_block_s_output_goes_through_the_bottleneck(variant: Any, base: Path):
    block = moved(Adapters(variant=variant, reduction=4).apply(llama(base))).model.layers[1].mlp
    values = torch.randn(2, 3, 32)
    plain = nn.functional.linear(block.act_fn(block.gate_proj(values)) * block.up_proj(values), block.down_proj.weight)
    activation = functional.silu if variant == "houlsby" else functional.relu
    assert block.down_proj.bottleneck.down.out_features == 8
    torch.testing.assert_close(block(values), plain + bottleneck(block.down_proj, plain, activation))


@torch.no_grad()
def test_a_parallel_bottleneck_reads_the_block_s_input(base: Path, tmp_path: Path):
    block = moved(Adapters(variant="parallel").apply(llama(base))).model.layers[1].mlp
    values = torch.randn(2, 3, 32)
    plain = nn.functional.linear(block.act_fn(block.gate_proj(values)) * block.up_proj(values), block.down_proj.weight)
    torch.testing.assert_close(block(values), plain + 4 * bottleneck(block.down_proj, values, functional.relu))
    found = bert(tmp_path)
    layer = moved(Adapters(variant="parallel").apply(found.model, fresh=found.fresh)).bert.encoder.layer[0]
    inner = layer.intermediate(values)
    dense = layer.output.dense
    plain = nn.functional.linear(inner, dense.weight, dense.bias) + 4 * bottleneck(dense, values, functional.relu)
    layer.eval()
    torch.testing.assert_close(layer.output(layer.intermediate(values), values), layer.output.LayerNorm(plain + values))
    assert dense.bottleneck.input is None  # nothing is kept alive


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_switched_off_they_leave_the_network_as_it_was(variant: Any, base: Path):
    before = llama(base)(input_ids=IDS).logits
    network = moved(Adapters(variant=variant).apply(llama(base)))
    after = network(input_ids=IDS).logits
    with switched_off(network):
        assert torch.equal(network(input_ids=IDS).logits, before)
    assert torch.equal(network(input_ids=IDS).logits, after)
    assert not torch.allclose(after, before, atol=1e-3)


def test_each_variant_has_its_paper_s_width(base: Path):
    widths = {}
    for variant in VARIANTS:
        network: Any = Adapters(variant=variant).apply(llama(base))  # type: ignore[arg-type]
        widths[variant] = network.model.layers[0].mlp.down_proj.bottleneck.down.out_features
    assert widths == {"houlsby": 2, "pfeiffer": 2, "parallel": 16}


def test_the_new_parts_are_saved_with_them(tmp_path: Path):
    found = bert(tmp_path / "base")
    network = Adapters().apply(found.model, fresh=found.fresh)
    FORM.save(network, tmp_path / "saved")
    names = set(load_file(tmp_path / "saved" / "bottleneck.safetensors"))
    assert {name for name in names if "bottleneck" not in name} == {"classifier.weight", "classifier.bias"}
    assert json.loads((tmp_path / "saved" / "bottleneck_config.json").read_text()) == {
        "variant": "pfeiffer",
        "reduction": 16,
        "fresh": ["classifier."],
        "base": str(tmp_path / "base"),
    }


def test_a_network_of_experts_is_refused():
    config = MixtralConfig(vocab_size=20, num_key_value_heads=2, num_local_experts=2, **SMALL)
    with pytest.raises(
        ModelError, match=r"apart: its feed-forward blocks are several experts \(model\.layers\.0\.mlp\.exp"
    ):
        Adapters().apply(MixtralForCausalLM(config))


def test_a_network_without_attention_is_refused():
    network = MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, state_size=4))
    said = r"MambaForCausalLM apart: 0 attention and 1 feed-forward blocks .* called dt_proj, in_proj, lm_head, out"
    with pytest.raises(ModelError, match=said):
        Adapters().apply(network)


def test_a_retriever_is_refused(tmp_path: Path):
    encoder = Encoder.load(str(tiny.tiny_bert(tmp_path)), dtype=torch.float32)
    with pytest.raises(
        ModelError, match=r"Encoder is saved for other libraries, which know no such layers.* Use lora or full"
    ):
        Adapters().apply(encoder)


def test_a_folder_that_holds_no_adapters_is_refused(base: Path):
    with pytest.raises(ModelError, match=r"this is no folder of adapters: there is no bottleneck_config\.json in it"):
        FORM.load(llama(base), base)


def test_a_damaged_folder_is_refused(base: Path, tmp_path: Path):
    Adapters().apply(llama(base)).save_pretrained(tmp_path)  # type: ignore[operator]
    (tmp_path / "bottleneck.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"bottleneck\.safetensors: these adapters' weights cannot be read"):
        FORM.load(llama(base), tmp_path)
    (tmp_path / "bottleneck.safetensors").unlink()
    with pytest.raises(ModelError, match=r"bottleneck\.safetensors: these adapters' weights cannot be read"):
        FORM.load(llama(base), tmp_path)
    (tmp_path / "bottleneck_config.json").write_text('{"variant": "pfeifer", "reduction": 0, "fresch": []}')
    said = r"config\.json: variant: .*'pfeiffer'.*; reduction: .*; fresch: there is no such key\. Did you mean 'fresh'"
    with pytest.raises(ModelError, match=said):
        FORM.load(llama(base), tmp_path)


def test_adapters_of_another_network_are_refused(base: Path, tmp_path: Path):
    Adapters().apply(llama(base)).save_pretrained(tmp_path)  # type: ignore[operator]
    wider = LlamaForCausalLM(LlamaConfig(vocab_size=20, num_key_value_heads=2, **{**SMALL, "hidden_size": 64}))
    said = rf"trained on {base} and do not fit LlamaForCausalLM: .*layers\.1\.\S+ has no place in the network"
    with pytest.raises(ModelError, match=said):
        FORM.load(wider, tmp_path)
    wider = LlamaForCausalLM(LlamaConfig(vocab_size=20, **{**SMALL, "hidden_size": 64, "num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"down\.weight is \(2, 32\) in the file and \(4, 64\) in the network.* …"):
        FORM.load(wider, tmp_path)


def test_a_missing_head_is_named(tmp_path: Path):
    found = bert(tmp_path / "base")
    FORM.save(Adapters().apply(found.model, fresh=found.fresh), tmp_path)
    weights = load_file(tmp_path / "bottleneck.safetensors")
    del weights["classifier.bias"]
    save_file(weights, tmp_path / "bottleneck.safetensors")
    with pytest.raises(ModelError, match=r"classifier\.bias is missing from the file"):
        FORM.load(bert(tmp_path / "again").model, tmp_path)


def test_they_are_put_into_a_network_once(base: Path):
    network = Adapters().apply(llama(base))
    with pytest.raises(ModelError, match="this LlamaForCausalLM has adapters already"):
        Adapters().apply(network)


def test_a_network_without_any_is_not_saved_as_adapters(base: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="this LlamaForCausalLM has no adapters to save"):
        FORM.save(llama(base), tmp_path)
