from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

import tiny
from burnish.errors import ModelError
from burnish.methods.bitfit import BitFit
from burnish.models.load import load_causal, load_classifier
from burnish.models.quiet import quiet


def test_all_biases_and_the_new_parts_train_and_nothing_else(tmp_path: Path):
    found = load_classifier(str(tiny.tiny_bert(tmp_path)), ["a", "b"], dtype=torch.float32, seed=0)
    model = BitFit().apply(found.model, fresh=found.fresh)
    moving = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert [name for name in moving if not name.endswith("bias")] == ["classifier.weight"]
    assert sum("LayerNorm" in name for name in moving) == 5
    assert sum(name.endswith("bias") for name, _ in model.named_parameters()) == len(moving) - 1


def test_a_decoder_with_biases_in_its_attention_is_trained():
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        attention_bias=True,
    )
    model = BitFit().apply(LlamaForCausalLM(config))
    assert sum(weight.requires_grad for weight in model.parameters()) == 4


def test_networks_without_biases_are_refused(tmp_path: Path):
    llama, _ = load_causal(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    with quiet():
        t5 = AutoModelForSeq2SeqLM.from_pretrained(tiny.tiny_t5(tmp_path / "t5"))
    assert any("relative_attention_bias" in name for name, _ in t5.named_parameters())  # a table, and no bias term
    for model in (llama, t5):
        said = f"method bitfit trains bias terms, and {type(model).__name__} has no biases. Use lora or full"
        with pytest.raises(ModelError, match=said):
            BitFit().apply(model)
