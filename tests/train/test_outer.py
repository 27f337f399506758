"""The outer steps of Reptile and first-order MAML on a quadratic, where every number is known in closed form."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from burnish.methods.full import Full
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.outer import Noted, first_order, reptile
from burnish.train.settings import Training

CURVATURE = torch.tensor([0.5, 1.0, 2.0])
FIRST, FURTHER = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 3.0])
START = torch.tensor([0.3, 0.2, -0.4])
RATE, STEPS = 0.1, 4


class Item:
    """A row: the place of the minimum."""

    id, tokens = "row", 1

    def __init__(self, centre: Tensor) -> None:
        """Take the minimum."""
        self.centre = centre


class Quadratic:
    """½ Σ a (w - c)², a row; what the loop asks of a task, and no more."""

    parts, takes_turns, updates_a_step = (), False, 1

    def begin(self, _: nn.Module) -> tuple[()]:
        return ()

    def micro_batches(self, _model: nn.Module, rows: Any, _tokens: Any, *, budget: int) -> Any:
        return [[*rows]]

    def collate(self, items: Any) -> Any:
        return items

    def count(self, batch: Any) -> int:
        return len(batch)

    def total_loss(self, model: Any, batch: Any) -> Tensor:
        return sum((0.5 * CURVATURE * (model.weight - item.centre) ** 2).sum() for item in batch)  # type: ignore[return-value]

    def after_step(self, _model: nn.Module, _batches: Any) -> None:
        return None

    def facts(self, _items: Any, _batches: Any) -> dict[str, Any]:
        return {}

    def shown(self, _items: Any) -> tuple[()]:
        return ()


class One(nn.Module):
    """Three numbers."""

    def __init__(self) -> None:
        """Begin at the start."""
        super().__init__()
        self.weight = nn.Parameter(START.clone())


def trained(model: nn.Module, centre: Tensor, folder: Path, build: Any, steps: int) -> None:
    training = Training(epochs=steps, batch=1, precision="fp32", evaluations=0, checkpoint_every=0, clip=1e9)
    training = training.model_copy(update={"schedule": "constant", "warmup": 0.0})
    task: Any = Quadratic()
    course = Course(
        task=task,
        items=[Item(centre)],  # type: ignore[list-item]
        training=training,
        method=Full(learning_rate=RATE),
        fresh=(),
        seed=0,
        data="rows",
        log=lambda *_: None,
        checkpoints=Checkpoints(folder / "checkpoints", lambda _: None),
        rewind=lambda _: None,
        build=build,
    )
    fit(model, course)


def plain(_names: Any, weights: Any, *_rest: Any, **_more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [*weights], "lr": RATE, "full_rate": RATE}])


def after(centre: Tensor) -> Tensor:
    """Where so many steps of gradient descent lead from the start."""
    return centre + (1 - RATE * CURVATURE) ** STEPS * (START - centre)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_reptile_goes_a_share_of_the_way(share: float, tmp_path: Path) -> None:
    model = One()
    trained(model, FIRST, tmp_path, plain, STEPS)
    torch.testing.assert_close(model.weight.data, after(FIRST))
    reptile([START], [model.weight], share)
    torch.testing.assert_close(model.weight.data, START + share * (after(FIRST) - START))


def test_first_order_maml_moves_the_start_by_the_gradient_at_what_was_learned(tmp_path: Path) -> None:
    model = One()
    trained(model, FIRST, tmp_path / "first", plain, STEPS)
    noted: list[Noted] = []

    def build(_names: Any, weights: Any, *_rest: Any, **_more: Any) -> Noted:
        noted.append(Noted(weights))
        return noted[0]

    trained(model, FURTHER, tmp_path / "further", build, 1)
    torch.testing.assert_close(model.weight.data, after(FIRST))  # to look moves nothing
    gradient = CURVATURE * (after(FIRST) - FURTHER)
    [found] = noted[0].found
    torch.testing.assert_close(found, gradient)
    outer = torch.optim.SGD([model.weight], lr=0.7)
    first_order([START], [model.weight], [found], outer)
    torch.testing.assert_close(model.weight.data, START - 0.7 * gradient)
    assert model.weight.grad is None
