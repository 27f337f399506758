"""Layers that are computed again give the gradient of layers that keep their activations, dropout included."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.models.recompute import recompute_layers
from burnish.records import Labelled
from burnish.tasks import Task
from burnish.tasks.classify import Classify
from burnish.tasks.generate import Generate

TEXTS = [Labelled(id=word, text=f"the {word} is red", label=word[0]) for word in ("cat", "dog", "cats")]
CASES = {
    "llama": (tiny.tiny_llama, Generate(), tiny.completions(6)),
    "t5": (tiny.tiny_t5, Generate(), tiny.completions(6)),
    "bert": (tiny.tiny_bert, Classify(labels=("c", "d")), TEXTS),
}


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", CASES)
def test_the_gradient_is_that_of_kept_activations(kind: str, method: str, tmp_path: Path) -> None:
    make, task, rows = CASES[kind]
    torch.manual_seed(0)
    built = task.build(str(make(tmp_path / kind)))
    model = Method.read(method).apply(built.model, fresh=built.fresh)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.3
    items = task.encode(rows, built).items
    kept = gradients(task, model, items)
    recompute_layers(model)
    assert equal(gradients(task, model, items), kept)
    recompute_layers(model, on=False)
    assert equal(gradients(task, model, items), kept)


def gradients(task: Task, model: Any, items: Any) -> list[torch.Tensor]:
    model.train()
    model.zero_grad()
    torch.manual_seed(1)
    task.total_loss(model, task.collate(items)).backward()
    return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) > 0 and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_activations_are_not_kept(tmp_path: Path) -> None:
    task = Generate()
    built = task.build(str(tiny.tiny_llama(tmp_path / "llama")))
    items = task.encode(tiny.completions(6), built).items
    built.model.train()

    def held() -> int:
        found: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            task.total_loss(built.model, task.collate(items))
        return sum(found)

    whole = held()
    recompute_layers(built.model)
    assert held() < whole / 3


def test_a_model_without_such_layers_is_told() -> None:
    with pytest.raises(ModelError, match=r"gradient_checkpointing: Linear has no layers that can be computed again"):
        recompute_layers(nn.Linear(2, 2))
