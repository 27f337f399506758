import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
)

import tiny
from burnish.errors import ModelError
from burnish.methods.lora import Lora
from burnish.methods.prefix import FORM, Prefix
from burnish.models.encode import Encoder
from burnish.models.load import Headed, load_causal, load_classifier
from burnish.models.quiet import quiet
from burnish.tasks import Built
from burnish.tasks.generate import Generate
from burnish.train.weights import Weights

TEXT = "answer the question in one word"
PLAIN, WIDE = Prefix(length=6, text=TEXT), Prefix(length=6, text=TEXT, reparametrize=9)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


def built(base: Path) -> Built:
    return Generate().build(str(base))


def text_ids(base: Path, rows: int) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(base)(TEXT, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.shape == (1, 6)
    return ids.expand(rows, -1)


@pytest.mark.parametrize("method", [PLAIN, WIDE])
@torch.no_grad()
def test_it_starts_as_the_model_with_the_text_before_its_input(method: Prefix, base: Path):
    ids = torch.arange(5, 25).view(2, 10)
    plain, _ = load_causal(str(base), dtype=torch.float32)
    expected = plain(input_ids=torch.cat([text_ids(base, 2), ids], dim=1)).logits[:, 6:]
    with quiet():
        found = method.apply(load_causal(str(base), dtype=torch.float32)[0])(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_short_text_is_repeated_and_a_long_one_cut(base: Path):
    plain, _ = load_causal(str(base), dtype=torch.float32)
    ids = torch.arange(5, 15)[None]
    for length, before in ((8, [*range(6), 0, 1]), (4, [*range(4)])):
        expected = plain(input_ids=torch.cat([text_ids(base, 1)[:, before], ids], dim=1)).logits[:, length:]
        with quiet():
            model = Prefix(length=length, text=TEXT).apply(load_causal(str(base), dtype=torch.float32)[0])
            found = model(input_ids=ids).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", [PLAIN, WIDE])
@pytest.mark.parametrize("rows", [tiny.completions(6), tiny.completions(1)])  # padded, and not
def test_the_loss_is_that_of_the_whole_model(method: Prefix, rows: Any, base: Path):
    task, parts = Generate(), built(base)
    model: Any = method.apply(parts.model).train()
    batch = task.collate(task.encode(rows, parts).items)
    with quiet():
        ids, mask, places = batch.read.padded
        logits = model(input_ids=ids, attention_mask=mask).logits
    expected = functional.cross_entropy(logits.flatten(0, 1)[places[batch.places]], batch.targets, reduction="sum")
    torch.testing.assert_close(task.total_loss(model, batch), expected)


def test_the_loss_of_other_methods_is_that_of_the_decoder(base: Path):
    task, parts = Generate(), built(base)
    model: Any = Lora().apply(parts.model)
    batch = task.collate(task.encode(tiny.completions(6), parts).items)
    ids, mask, places = batch.read.padded
    hidden = parts.model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    logits = parts.model.get_output_embeddings()(hidden.flatten(0, 1)[places[batch.places]])
    torch.testing.assert_close(task.total_loss(model, batch), task.loss(logits, batch.targets))


@pytest.mark.parametrize("method", [PLAIN, WIDE])
def test_it_trains_in_bf16(method: Prefix, base: Path):
    task, parts = Generate(), built(base)
    model = method.apply(parts.model)
    batch = task.collate(task.encode(tiny.completions(6), parts).items)
    exact = task.total_loss(model, batch).item()
    weights = Weights(model, torch.bfloat16)
    loss = task.total_loss(model, batch)
    loss.backward()
    weights.collect()
    assert loss.item() == pytest.approx(exact, rel=0.02)
    assert all(gradient.any() for gradient in weights.gradients())


def test_an_mlp_is_dropped_when_the_prefix_is_saved(base: Path, tmp_path: Path):
    model: Any = WIDE.apply(built(base).model)
    with quiet():
        model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {name: tuple(value.shape) for name, value in weights.items()} == {"prompt_embeddings": (6, 2 * 2 * 16)}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert len([name for name, weight in model.named_parameters() if weight.requires_grad]) == 5


def test_an_mlp_too_narrow_to_start_from_the_text_is_refused():
    with pytest.raises(
        ValidationError, match=r"reparametrize.* is 4, and must be 0 or at least the prefix's length \(6\)"
    ):
        Prefix(length=6, reparametrize=4)


def test_a_retriever_is_refused(tmp_path: Path):
    encoder = Encoder.load(str(tiny.tiny_bert(tmp_path)), dtype=torch.float32)
    with pytest.raises(ModelError, match=r"Encoder is saved for other libraries, .* Use lora or full"):
        Prefix().apply(encoder)


def classifier(base: Path) -> Headed:
    return load_classifier(str(base), ["a", "b"], dtype=torch.float32, seed=0)


def test_outside_a_cache_it_trains_with_the_new_head_and_both_are_saved(base: Path, tmp_path: Path):
    found = classifier(base)
    network: Any = PLAIN.apply(found.model, fresh=found.fresh)
    moving = {name: tuple(weight.shape) for name, weight in network.named_parameters() if weight.requires_grad}
    before = [f"model.layers.{layer}.self_attn.prefix.{part}" for layer in range(2) for part in ("keys", "values")]
    assert moving == {"score.weight": (2, 32), **dict.fromkeys(before, (2, 6, 8))}
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight))
    network.save_pretrained(tmp_path)
    assert {*load_file(tmp_path / "prefix.safetensors")} == {*moving}
    assert json.loads((tmp_path / "prefix_config.json").read_text()) == {
        "length": 6,
        "fresh": ["score."],
        "base": str(base),
    }
    again, ids = classifier(tmp_path), torch.arange(5, 25).view(2, 10)
    assert again.fresh == ()
    assert torch.equal(again.model(input_ids=ids).logits, network(input_ids=ids).logits)


@torch.no_grad()
def test_a_classifier_starts_as_the_decoder_with_the_text_before_its_input(base: Path):
    ids = torch.arange(5, 15)[None]
    plain = classifier(base)
    expected = plain.model(input_ids=torch.cat([text_ids(base, 1), ids], dim=1)).logits
    found = PLAIN.apply(plain.model, fresh=plain.fresh)(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_prefix_of_another_network_is_refused(base: Path, tmp_path: Path):
    found = classifier(base)
    PLAIN.apply(found.model, fresh=found.fresh).save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    sizes = {"vocab_size": 84, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 8, "pad_token_id": 0}
    shallow, narrow = (
        LlamaForSequenceClassification(LlamaConfig(num_hidden_layers=layers, **sizes)) for layers in (1, 2)
    )
    with pytest.raises(ModelError, match=r"these prefixes were trained on .* has no place in the network"):
        FORM.load(shallow, tmp_path / "saved")
    with pytest.raises(ModelError, match=r"\(2, 6, 8\) in the file and \(8, 6, 4\) in the network"):
        FORM.load(narrow, tmp_path / "saved")


def test_a_model_without_a_tokenizer_is_refused():
    config = GPT2Config(vocab_size=9, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    with pytest.raises(ModelError, match="method prefix starts from a text, and this model has no tokenizer"):
        Prefix().apply(GPT2LMHeadModel(config))


def test_a_text_without_a_token_is_refused(base: Path):
    with pytest.raises(ModelError, match="makes no token of the text ' '"):
        Prefix(text=" ").apply(built(base).model)


def test_a_model_that_keeps_no_keys_is_refused(base: Path, tmp_path: Path):
    network = MambaForCausalLM(MambaConfig(vocab_size=84, hidden_size=16, num_hidden_layers=1, state_size=4))
    network.name_or_path = str(base)
    with pytest.raises(ModelError, match="not every layer of MambaForCausalLM keeps keys and values"):
        Prefix(length=4).apply(network)
