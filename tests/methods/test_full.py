from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

import tiny
from burnish.errors import ModelError
from burnish.methods.full import Full
from burnish.models.load import load_causal, load_classifier
from burnish.models.quiet import quiet
from burnish.tasks.generate import Generate
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.optimizer import start_shares
from burnish.train.settings import Training


def llama(folder: Path) -> Any:
    return load_causal(str(tiny.tiny_llama(folder)), dtype=torch.float32)[0]


def t5(folder: Path) -> Any:
    with quiet():
        return AutoModelForSeq2SeqLM.from_pretrained(tiny.tiny_t5(folder))


def frozen(model: nn.Module) -> list[str]:
    return [name for name, weight in model.named_parameters() if not weight.requires_grad]


def test_the_lowest_layers_are_frozen_in_every_stack(tmp_path: Path):
    assert {name.split(".")[2] for name in frozen(Full(freeze_layers=1).apply(llama(tmp_path)))} == {"0"}
    names = frozen(Full(freeze_layers=1).apply(t5(tmp_path / "t5")))
    assert {".".join(name.split(".")[:3]) for name in names} == {"encoder.block.0", "decoder.block.0"}


def test_embeddings_are_frozen_by_whatever_name(tmp_path: Path):
    method = Full(freeze_embeddings=True)
    assert frozen(method.apply(llama(tmp_path))) == ["model.embed_tokens.weight"]
    assert frozen(method.apply(t5(tmp_path / "t5"))) == ["shared.weight"]
    bert = load_classifier(str(tiny.tiny_bert(tmp_path / "bert")), ["a", "b"], dtype=torch.float32, seed=0)
    names = frozen(method.apply(bert.model, fresh=bert.fresh))
    assert len(names) == 5
    assert all(name.startswith("bert.embeddings.") for name in names)


def test_a_pattern_freezes_what_it_fits_and_no_new_part(tmp_path: Path):
    found = load_classifier(str(tiny.tiny_bert(tmp_path)), ["a", "b"], dtype=torch.float32, seed=0)
    assert found.fresh == ("classifier.",)
    names = frozen(Full(freeze=("*.bias", "bert.pooler.*")).apply(found.model, fresh=found.fresh))
    assert {name.rpartition(".")[2] for name in names} == {"bias", "weight"}
    assert [name for name in names if name.endswith("weight")] == ["bert.pooler.dense.weight"]
    assert not any(name.startswith("classifier") for name in names)


def test_a_pattern_that_freezes_nothing_is_an_error(tmp_path: Path):
    model = llama(tmp_path)
    with pytest.raises(
        ModelError, match=r"'\*\.q_porj\.\*' fits no weight of LlamaForCausalLM .* Did you mean 'q_proj'\?"
    ):
        Full(freeze=("*.q_porj.*",)).apply(model)
    with pytest.raises(ModelError, match=r"Did you mean 'q_proj\.weight'\? Its weights are called like model\.embed"):
        Full(freeze=("*q_proj.wieght",)).apply(model)


def test_more_layers_than_there_are_cannot_be_frozen(tmp_path: Path):
    with pytest.raises(ModelError, match="freeze_layers is 3, and LlamaForCausalLM has 2 layers"):
        Full(freeze_layers=3).apply(llama(tmp_path))


def test_a_network_without_numbered_layers_cannot_be_unfrozen_gradually():
    with pytest.raises(ModelError, match="no layer of Linear is numbered"):
        Full(unfreeze="gradually").apply(nn.Linear(2, 2))


@pytest.mark.parametrize("make", [llama, t5])
def test_the_top_moves_first_and_the_embeddings_last(make: Any, tmp_path: Path):
    names = [name for name, _ in make(tmp_path).named_parameters()]
    assert set(start_shares(names, Full(), fresh=()).values()) == {0.0}
    starts = start_shares(names, Full(unfreeze="gradually"), fresh=())
    for name, start in starts.items():
        layer = [part for part in name.split(".")[:3] if part.isdigit()]
        lowest = 0.5 if "embed" in name or "shared" in name else 0.0
        assert start == {"1": 0.0, "0": 0.25}.get("".join(layer), lowest), name


def test_weights_move_from_the_step_that_they_are_due(tmp_path: Path):
    task = Generate()
    built = task.build(str(tiny.tiny_llama(tmp_path)))
    before = {name: weight.clone() for name, weight in built.model.named_parameters()}
    moved: list[set[str]] = []

    def log(name: str, _: Mapping[str, object]) -> None:
        if name == "log.jsonl":
            names = [key for key, weight in built.model.named_parameters() if not torch.equal(weight, before[key])]
            moved.append({key.split(".")[2 if ".layers." in key else 1] for key in names})

    method = Full(unfreeze="gradually")
    course = Course(
        task=task,
        items=task.encode(tiny.completions(8), built).items,
        training=Training(epochs=4, batch=8, precision="fp32", evaluations=0, warmup=0.0),
        method=method,
        fresh=(),
        seed=0,
        data="",
        log=log,
        checkpoints=Checkpoints(tmp_path / "checkpoints", pytest.fail),
        rewind=lambda _: None,
    )
    fit(method.apply(built.model), course)
    assert moved == [{"1", "norm"}, {"1", "norm", "0"}, *[{"1", "norm", "0", "embed_tokens"}] * 2]
