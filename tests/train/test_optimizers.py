"""Every optimizer: learns, and goes on from a checkpoint as if it had not stopped."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from burnish.errors import RecipeError
from burnish.methods.full import Full
from burnish.train.checkpoint import Checkpoints, State
from burnish.train.optimizer import build_optimizer
from burnish.train.settings import Training
from burnish.train.weights import Weights

EIGHT_BIT = pytest.param(
    "adamw_8bit",
    marks=pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the extra `8bit` is not installed"),
)
KINDS = ("adamw", "adafactor", EIGHT_BIT)
NAMES = ["layer.weight", "layer.bias"]


def started(kind: str) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Return weights large enough for 8-bit moments, and their optimizer."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(80, 64)), nn.Parameter(torch.zeros(80))]
    training = Training.model_validate({"optimizer": kind, "weight_decay": 0.0})
    return weights, build_optimizer(NAMES, weights, training, Full(learning_rate=1e-2), fresh=())


def step(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, number: int) -> float:
    """Fit a fixed linear map; return the loss before the step."""
    draw = torch.Generator().manual_seed(number)
    inputs, target = torch.randn(32, 64, generator=draw), torch.linspace(-1, 1, 80)
    loss = (torch.nn.functional.linear(inputs, *weights) - target).square().mean()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_lowers_the_loss(kind: str):
    weights, optimizer = started(kind)
    losses = [step(weights, optimizer, number) for number in range(60)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_goes_on_from_a_checkpoint_bit_for_bit(kind: str, tmp_path: Path):
    weights, optimizer = started(kind)
    for number in range(3):
        step(weights, optimizer, number)
    checkpoints = Checkpoints(tmp_path / "checkpoints", pytest.fail)
    checkpoints.save(State(step=3, data="x"), weights, optimizer)
    for number in range(3, 6):
        step(weights, optimizer, number)

    resumed, other = started(kind)
    found = checkpoints.load(resumed, other, data="x")
    assert found is not None
    with torch.no_grad():
        for weight, value in zip(resumed, found[1], strict=True):
            weight.copy_(value)
    for number in range(3, 6):
        step(resumed, other, number)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed, weights, strict=True))


@pytest.mark.parametrize("kind", ["adafactor", EIGHT_BIT])
def test_the_lean_optimizers_keep_less_for_a_matrix(kind: str):
    kept = {}
    for name in ("adamw", kind):
        weights, optimizer = started(name)
        step(weights, optimizer, 0)
        kept[name] = sum(
            value.numel() * value.itemsize
            for value in optimizer.state[weights[0]].values()
            if isinstance(value, torch.Tensor) and value.numel() != 256  # the table that all 8-bit moments share
        )
    assert kept[kind] < 0.3 * kept["adamw"]


def test_weights_are_pulled_to_their_start_by_the_gradient_of_half_the_squared_distance():
    layer = nn.Linear(3, 2)
    weights = Weights(layer, torch.float32, keep_start=True)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(2.0)
    weights.pull(0.5)
    expected = torch.autograd.functional.jacobian(lambda w: 0.25 * (w - start).square().sum(), layer.weight.detach())
    torch.testing.assert_close(layer.weight.grad, expected)


def test_interpolated_weights_lie_between_start_and_end():
    layer = nn.Linear(3, 2)
    weights = Weights(layer, torch.float32, keep_start=True)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(2.0)
    weights.interpolate(0.25)
    torch.testing.assert_close(layer.weight, start + 0.5)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="the extra `8bit` is installed")
def test_an_optimizer_whose_library_is_missing_says_how_to_get_it():
    with pytest.raises(RecipeError, match=r"pip install 'burnish\[8bit\]'; or use adafactor"):
        started("adamw_8bit")
