"""LoRA on a base that is held in four bits."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.methods.lora import Lora
from burnish.models.encode import Encoder
from burnish.models.load import load_causal
from burnish.models.quiet import quiet
from burnish.recipe import Files, Recipe
from burnish.records import Completion, dump_jsonl
from burnish.steps.train import trained
from burnish.tasks import Task
from burnish.train.settings import Training

pytest.importorskip("bitsandbytes", reason="the extra `4bit` is not installed")
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"), width=64)


def adapted(model: nn.Module, **settings: Any) -> Any:
    torch.manual_seed(0)
    found = Lora(rank=4, **settings).apply(model)
    for name, weight in found.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return found


def gradients(model: Any) -> list[torch.Tensor]:
    out = model(input_ids=IDS, labels=IDS)
    return list(torch.autograd.grad(out.loss, [weight for weight in model.parameters() if weight.requires_grad]))


def test_it_is_lora_on_a_base_of_the_rounded_weights(base: Path) -> None:
    held = adapted(load_causal(str(base), dtype=torch.float32)[0], quantize="nf4")
    rounded = load_causal(str(base), dtype=torch.float32)[0]
    layers = [layer for layer in held.modules() if isinstance(layer, Linear4bit)]
    plain = [layer for name, layer in rounded.named_modules() if type(layer) is nn.Linear and name != "lm_head"]
    assert len(layers) == len(plain) == 14
    for mine, theirs in zip(layers, plain, strict=True):
        exact = theirs.weight.detach().clone()
        theirs.weight.data = dequantize_4bit(mine.weight.data, mine.weight.quant_state)
        gap = (theirs.weight - exact).norm() / exact.norm()
        assert 0.01 < gap < 0.15  # four bits are few
        assert mine.weight.numel() == theirs.weight.numel() // 2  # two weights a byte
    wrapped = adapted(rounded)
    with torch.no_grad():
        held.eval()(input_ids=IDS)  # after which it still trains
    torch.testing.assert_close(held(input_ids=IDS).logits, wrapped(input_ids=IDS).logits, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(gradients(held), gradients(wrapped), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_run_leaves_an_adapter_that_goes_onto_the_base_as_it_is(base: Path, tmp_path: Path) -> None:
    rows = [Completion(id=str(n), prompt="the cat is", completion=word) for n, word in enumerate(["red", "green"] * 4)]
    (tmp_path / "rows.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    recipe = Recipe(
        task=Task.read("generate"),
        model=str(base),
        method=Method.read({"kind": "lora", "rank": 4, "quantize": "nf4"}),
        data=Files(train=str(tmp_path / "rows.jsonl")),
        training=Training(epochs=10, batch=4, precision="bf16", evaluations=0, dropout=0.0),
    )
    run = trained(recipe, tmp_path / "run", say=lambda _: None, progress=lambda *_: None)
    assert run.manifest["parameters"] > 2 * 64 * 64 * 4
    losses = [line["loss"] for line in run.lines("log.jsonl")]
    assert losses[-1] < 0.8 * losses[0]
    with quiet():
        plain = load_causal(str(base), dtype=torch.float32)[0]
        network = PeftModel.from_pretrained(copy.deepcopy(plain), run.folder / "model")
        assert not torch.equal(network(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    assert not any(isinstance(layer, Linear4bit) for layer in network.modules())


def test_an_encoder_whose_update_would_be_merged_is_refused(tmp_path: Path) -> None:
    encoder = Encoder.load(str(tiny.tiny_bert(tmp_path)), dtype=torch.float32)
    with pytest.raises(ModelError, match="Encoder is saved with the update merged into its weights"):
        Lora(quantize="nf4").apply(encoder)


@pytest.mark.parametrize("settings", [{"dora": True}, {"init": "pissa"}])
def test_what_reads_the_weights_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"reads the base's weights, which quantize nf4 rounds; leave one"):
        Lora(quantize="nf4", **settings)


def test_where_no_layer_can_be_held_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM has none whose inputs are a multiple of 64; leave it out"):
        Lora(quantize="nf4").apply(load_causal(str(tiny.tiny_llama(tmp_path, width=16)), dtype=torch.float32)[0])
    network = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    with pytest.raises(ModelError, match="GPT2LMHeadModel has none"):
        Lora(quantize="nf4").apply(network)


def test_a_task_that_saves_merged_weights_refuses_it() -> None:
    with pytest.raises(ValidationError, match="a model of the task pretrain is saved with the update merged"):
        Recipe(
            task=Task.read("pretrain"),
            model="a",
            method=Method.read({"kind": "lora", "quantize": "nf4"}),
            data=Files(train="rows.jsonl"),
        )


def test_without_the_library_it_says_what_to_install(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"pip install 'burnish\[4bit\]'; or leave quantize out"):
        Lora(quantize="nf4").apply(load_causal(str(base), dtype=torch.float32)[0])
