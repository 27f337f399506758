from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertModel,
)

import tiny
from burnish.errors import ModelError
from burnish.methods.ia3 import IA3
from burnish.models.encode import Encoder
from burnish.models.load import load_causal, load_classifier
from burnish.models.quiet import quiet


def scaled(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the layers with factors, and the shape of these: (n, 1) outputs or (1, n) inputs are scaled."""
    return {
        name.split(".ia3_l")[0].removeprefix("base_model.model."): tuple(weight.shape)
        for name, weight in model.named_parameters()
        if ".ia3_l" in name and weight.requires_grad
    }


def test_keys_values_and_the_way_out_of_the_feed_forward_layer_are_scaled_in_bert(tmp_path: Path):
    found = load_classifier(str(tiny.tiny_bert(tmp_path)), ["a", "b"], dtype=torch.float32, seed=0)
    layers = [f"bert.encoder.layer.{number}" for number in range(2)]
    expected: dict[str, tuple[int, ...]] = {f"{layer}.output.dense": (1, 64) for layer in layers}
    for layer in layers:  # and not attention.output.dense, whose name has the same end
        expected |= {f"{layer}.attention.self.key": (32, 1), f"{layer}.attention.self.value": (32, 1)}
    assert scaled(IA3().apply(found.model, fresh=found.fresh)) == expected


def test_keys_values_and_the_way_out_of_the_feed_forward_layer_are_scaled_in_llama(tmp_path: Path):
    model = IA3().apply(load_causal(str(tiny.tiny_llama(tmp_path)), dtype=torch.float32)[0])
    expected: dict[str, tuple[int, ...]] = {}
    for layer in (f"model.layers.{number}" for number in range(2)):
        expected |= {f"{layer}.self_attn.k_proj": (16, 1), f"{layer}.self_attn.v_proj": (16, 1)}
        expected |= {f"{layer}.mlp.down_proj": (1, 64)}
    assert scaled(model) == expected


def test_every_attention_of_an_encoder_decoder_is_scaled(tmp_path: Path):
    with quiet():
        model = IA3().apply(AutoModelForSeq2SeqLM.from_pretrained(tiny.tiny_t5(tmp_path)))
    ends = [name.rpartition(".")[2] for name in scaled(model)]
    assert (ends.count("k"), ends.count("v"), ends.count("wo")) == (6, 6, 4)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (
            GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)),
            {"transformer.h.0.attn.c_attn", "transformer.h.0.mlp.c_proj"},
        ),
        (
            DistilBertModel(DistilBertConfig(vocab_size=9, dim=16, n_layers=1, n_heads=2, hidden_dim=32)),
            {f"transformer.layer.0.{end}" for end in ("attention.k_lin", "attention.v_lin", "ffn.lin2")},
        ),
        (
            ModernBertModel(
                ModernBertConfig(
                    vocab_size=9,
                    hidden_size=16,
                    intermediate_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    pad_token_id=0,
                    bos_token_id=1,
                    eos_token_id=2,
                    cls_token_id=1,
                    sep_token_id=2,
                )
            ),
            {"layers.0.attn.Wqkv", "layers.0.mlp.Wo"},
        ),
    ],
)
def test_other_known_networks_are_scaled(network: Any, names: set[str]):
    ids = torch.arange(8)[None]
    network.eval()
    before = network(input_ids=ids)[0]
    model: Any = IA3().apply(network)
    assert set(scaled(model)) == names
    torch.testing.assert_close(model(input_ids=ids)[0], before)


def test_an_unknown_network_is_refused_with_the_names_of_its_layers():
    network = nn.ModuleDict({"mixer": nn.Linear(2, 2), "gate": nn.Linear(2, 2)})
    with pytest.raises(
        ModelError, match=r"which of ModuleDict's linear layers these are: gate, mixer\. Use lora or full"
    ):
        IA3().apply(network)
    with pytest.raises(ModelError, match=r"\(there are none\)"):
        IA3().apply(nn.Dropout())


def test_a_retriever_is_saved_with_the_factors_in_its_weights(tmp_path: Path):
    encoder: Any = Encoder.load(str(tiny.tiny_bert(tmp_path / "bert")), dtype=torch.float32)
    model: Any = IA3().apply(encoder)
    plain, _ = model.encode(texts := ["red cat", "blue dog"], max_tokens=8)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.3)
    ours, _ = model.encode(texts, max_tokens=8)
    model.save(tmp_path / "model")
    with quiet():
        loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    theirs = loaded.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    assert not torch.allclose(ours, plain, atol=1e-3)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
