"""The fused LoRA layer against PEFT's own, on the same weights."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from torch import Tensor, nn

from burnish.train.fused import FusedLinear, fuse


class Two(nn.Module):
    """Two linear layers, with and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).tanh())
        return out


def pair(**settings: Any) -> tuple[Any, Any]:
    """Return PEFT's model and the fused one, with the same weights, B not zero."""
    torch.manual_seed(0)
    network: Any = Two()
    plain: Any = get_peft_model(network, LoraConfig(r=4, lora_alpha=6, target_modules=["first", "second"], **settings))
    for name, weight in plain.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    fused = copy.deepcopy(plain)
    fuse(fused)
    return plain, fused


def passed(model: Any, x: Tensor) -> dict[str, Tensor]:
    """Return output and gradients."""
    x = x.clone().requires_grad_()
    out = model(x)
    torch.autograd.backward((out * torch.arange(8.0, dtype=out.dtype)).sum())
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert x.grad is not None
    return {"out": out.detach(), "x": x.grad, **found}


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)])
def test_output_and_gradients_are_those_of_peft(shape: tuple[int, ...]):
    plain, fused = pair()
    assert sum(isinstance(module, FusedLinear) for module in fused.modules()) == 2
    x = torch.randn(*shape, dtype=torch.float64)
    theirs, ours = passed(plain.double(), x), passed(fused.double(), x)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12, msg=name)


def test_gradients_are_those_of_finite_differences():
    _, fused = pair()
    assert torch.autograd.gradcheck(fused.double(), torch.randn(3, 12, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_dropout": 0.5}])
def test_what_is_not_plain_is_computed_by_peft(settings: dict[str, Any]):
    plain, fused = pair(**settings)
    x = torch.randn(5, 12)
    outputs = []
    for model in (plain, fused):
        torch.manual_seed(3)
        outputs.append(model.train()(x))
    assert torch.equal(*outputs)


def test_merged_and_switched_off_are_honoured():
    _, fused = pair()
    x = torch.randn(5, 12)
    on = fused(x)
    with fused.disable_adapter():
        off = fused(x)
    assert not torch.allclose(on, off)
    merged = copy.deepcopy(fused).merge_and_unload()
    torch.testing.assert_close(merged(x), on)
    assert not any(isinstance(module, lora.Linear) for module in merged.modules())
