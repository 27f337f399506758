from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.methods import Method
from burnish.models.completions import completion_logits
from burnish.models.start import _starts, at_start, remember_start
from burnish.tasks.generate import Generate


@pytest.mark.parametrize("method", ["full", "lora", "adapters", "prefix", "prompt"])
def test_every_methods_model_is_what_it_was_while_it_is_looked_back_at(method: str, tmp_path: Path):
    built = Generate().build(str(tiny.tiny_llama(tmp_path, tied=False)))
    task = Generate()
    batch = task.collate(task.encode(tiny.completions(4), built).items)
    with torch.no_grad():
        base = completion_logits(built.model.eval(), batch)
    model = Method.read(method).apply(built.model).train()
    remember_start(model)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight))
        moved = completion_logits(model.eval(), batch)
    model.train()
    before = [weight.detach().clone() for weight in model.parameters()]
    with at_start(model) as start:
        found = completion_logits(start, batch)
        assert not start.training
    torch.testing.assert_close(found, base, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(moved, base, atol=1e-2)
    assert model.training
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, model.parameters(), strict=True))


def test_gradients_of_a_pass_after_it_are_those_without_it():
    layer = nn.Linear(3, 2)
    remember_start(layer)
    inputs = torch.randn(4, 3)

    def gradient() -> Tensor:
        layer.zero_grad()
        layer(inputs).square().sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    with torch.no_grad():
        layer.weight.add_(1.0)
    expected = gradient()
    with at_start(layer) as start:
        assert not start(inputs).requires_grad
    assert torch.equal(gradient(), expected)


def test_weights_come_back_when_the_pass_fails():
    layer = nn.Linear(3, 2)
    remember_start(layer)
    with torch.no_grad():
        layer.weight.add_(1.0)
    moved = layer.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), at_start(layer):
        raise ZeroDivisionError
    assert torch.equal(layer.weight, moved)


def test_a_start_goes_with_its_model():
    before = len(_starts)
    layer = nn.Linear(3, 2)
    remember_start(layer)
    assert len(_starts) == before + 1
    del layer
    assert len(_starts) <= before
