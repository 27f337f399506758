from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.methods.head import Head
from burnish.methods.lora import Lora
from burnish.models.quiet import quiet
from burnish.tasks import Built, Task
from burnish.tasks.generate import Generate
from burnish.tasks.retrieve import Retrieve
from burnish.train.check import require_trainable
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.settings import Training

FULL, LORA, HEAD = Full(learning_rate=3e-3), Lora(learning_rate=1e-2), Head(learning_rate=1e-1)
CASES = [
    pytest.param(Generate(), FULL, id="generate-full"),
    pytest.param(Generate(), LORA, id="generate-lora"),
    pytest.param(Generate(), HEAD, id="generate-head"),
    pytest.param(Retrieve(query_tokens=16, passage_tokens=24), FULL, id="retrieve-full"),
    pytest.param(Retrieve(query_tokens=16, passage_tokens=24), LORA, id="retrieve-lora"),
]
MORE = [
    pytest.param(Generate(), {"kind": "full", "learning_rate": 3e-3, "unfreeze": "gradually"}, id="generate-gradually"),
    pytest.param(Generate(), {"kind": "lora", "learning_rate": 1e-2, "dora": True}, id="generate-dora"),
    pytest.param(Generate(), {"kind": "lora", "learning_rate": 2e-3, "rank": 8, "init": "pissa"}, id="generate-pissa"),
]


def prepared(task: Task, method: Method, folder: Path) -> tuple[nn.Module, Built]:
    """Return an adapted model; `head` needs a Llama whose output layer is its own."""
    if task.kind == "generate":
        base = tiny.tiny_llama(folder / "base", tied=method.kind != "head")
    else:
        base = tiny.tiny_bert(folder / "base")
    torch.manual_seed(0)
    built = task.build(str(base))
    return method.apply(built.model, fresh=built.fresh), built


def trained(model: nn.Module, built: Built, task: Task, method: Method, folder: Path, *, steps: int) -> list[float]:
    """Train on the same eight rows at every step, and return the loss of each."""
    rows = tiny.completions(8) if task.kind == "generate" else tiny.pairs(8)
    losses: list[float] = []

    def log(name: str, line: Mapping[str, Any]) -> None:
        if name == "log.jsonl":
            losses.append(line["loss"])

    course = Course(
        task=task,
        items=task.encode(rows, built).items,
        training=Training(epochs=steps, batch=8, precision="fp32", evaluations=0, dropout=0.0, schedule="constant"),
        method=method,
        fresh=built.fresh,
        seed=0,
        data="",
        log=log,
        checkpoints=Checkpoints(folder / "checkpoints", pytest.fail),
        rewind=lambda _: None,
    )
    fit(model, course)
    return losses


@pytest.mark.parametrize(("task", "method"), CASES)
def test_a_model_learns_eight_rows(task: Task, method: Method, tmp_path: Path):
    model, built = prepared(task, method, tmp_path)
    losses = trained(model, built, task, method, tmp_path, steps=100)
    assert losses[0] > 1
    assert losses[-1] < 0.05


@pytest.mark.parametrize(("task", "settings"), MORE)
def test_the_loss_falls_with_every_variant(task: Task, settings: dict[str, Any], tmp_path: Path):
    method = Method.read(settings)
    model, built = prepared(task, method, tmp_path)
    losses = trained(model, built, task, method, tmp_path, steps=40)
    assert losses[0] > 2
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(("task", "method"), CASES)
def test_every_trainable_weight_gets_a_gradient(task: Task, method: Method, tmp_path: Path):
    model, built = prepared(task, method, tmp_path)
    rows = tiny.completions(8) if task.kind == "generate" else tiny.pairs(8)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:  # zero at first, so that lora_A has no gradient until B has moved
                weight.normal_(std=0.1)
    task.total_loss(model, task.collate(task.encode(rows, built).items)).backward()
    without = [n for n, w in model.named_parameters() if w.requires_grad and (w.grad is None or not w.grad.any())]
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad and weight.grad is not None]
    exact_zero = ("key.bias", "k_proj.bias")  # the softmax over keys does not change with a constant
    assert [name for name in without if not name.endswith(exact_zero)] == []
    assert frozen == []


@pytest.mark.parametrize(("task", "method"), [case for case in CASES if "full" not in str(case.id)])
def test_a_method_trains_fewer_weights_than_full(task: Task, method: Method, tmp_path: Path):
    trainable, parameters = require_trainable(prepared(task, method, tmp_path)[0], method)
    assert 0 < trainable < parameters


def test_full_trains_all_weights(tmp_path: Path):
    trainable, parameters = require_trainable(prepared(Generate(), FULL, tmp_path)[0], FULL)
    assert trainable == parameters


def test_lora_starts_as_the_model_itself(tmp_path: Path):
    model, _ = prepared(Generate(), LORA, tmp_path)
    ids = torch.arange(5, 15)[None]
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.eval()
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize("method", [FULL, HEAD])
def test_a_saved_generator_loads_in_transformers_with_equal_outputs(method: Method, tmp_path: Path):
    task = Generate()
    model, built = prepared(task, method, tmp_path)
    trained(model, built, task, method, tmp_path, steps=3)
    task.save(model, built, tmp_path / "model")
    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(5, 15)[None]
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_head_refuses_an_output_layer_that_is_the_embedding_table(tmp_path: Path):
    built = Generate().build(str(tiny.tiny_llama(tmp_path)))
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has none here .*embedding table.* Use lora or full"):
        HEAD.apply(built.model)


def test_a_model_without_a_trainable_weight_is_refused():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ModelError, match="method full leaves no weight of Linear to train; use lora"):
        require_trainable(model, FULL)


@pytest.mark.parametrize("name", Method.names())
@pytest.mark.parametrize("rate", [0, -1e-4, float("nan"), float("inf")])
def test_a_learning_rate_that_is_not_above_zero_is_refused(name: str, rate: float):
    with pytest.raises(ValidationError, match="learning_rate"):
        Method.read({"kind": name, "learning_rate": rate})


@pytest.mark.parametrize("name", Method.names())
def test_every_method_brings_a_learning_rate_of_its_own(name: str):
    assert 0 < Method.read(name).learning_rate < 1


@pytest.mark.parametrize("method", [FULL, LORA])
def test_a_learned_temperature_moves_with_every_method(method: Method, tmp_path: Path):
    task = Task.read({"kind": "retrieve", "loss": {"kind": "contrastive", "learn": "temperature"}, "query_tokens": 16})
    task = task.model_copy(update={"passage_tokens": 24})
    model, built = prepared(task, method, tmp_path)
    [scale] = [weight for name, weight in model.named_parameters() if "log_scale" in name]
    before = scale.item()
    assert scale.requires_grad
    trained(model, built, task, method, tmp_path, steps=5)
    assert scale.item() != before
