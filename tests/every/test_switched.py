"""Several adapters on one network, their heads too, switched by name by PEFT's own calls."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.methods import Method
from burnish.models.quiet import quiet
from burnish.tasks import Built, Task
from burnish.train.fused import fuse
from every.cells import TASKS, assert_same, rows_of

IDS = torch.tensor([[5, 6, 7, 8, 9, 1], [7, 5, 11, 1, 3, 2]])
CASES = [("generate", "llama"), ("classify", "bert"), ("regress", "llama"), ("extract", "t5")]


def saved(kind: str, base: Path, folder: Path, *, seed: int) -> Task:
    """Write a LoRA whose weights, the new head's too, are moved at random as if by training; return its task."""
    task: Task = Task.read({"kind": kind, **TASKS.get(kind, {})})
    rows = rows_of(task.record)
    task = task.settled(rows)
    torch.manual_seed(seed)
    built = task.build(str(base), seed=seed)
    model = Method.read({"kind": "lora", "rank": 4}).apply(built.model, fresh=built.fresh)
    task.encode(rows, built)  # a regression takes its unit from the first rows
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    task.save(model, built, folder)
    return task


def said(task: Task, built: Built) -> list[Any]:
    reads = task.metrics[0].reads
    return task.predictions(built.model, built, rows_of(task.record), reads=reads, progress=lambda *_: None)


@torch.no_grad()
def outputs(model: Any) -> Tensor:
    found: Tensor = model(input_ids=IDS)[0]
    return found


@pytest.mark.parametrize(("kind", "backbone"), CASES)
def test_each_adapter_on_a_shared_network_gives_what_it_gives_alone(
    kind: str, backbone: str, backbones: dict[str, Path], tmp_path: Path
) -> None:
    task = saved(kind, backbones[backbone], tmp_path / "one", seed=1)
    saved(kind, backbones[backbone], tmp_path / "other", seed=2)
    alone = {name: task.build(str(tmp_path / name)) for name in ("one", "other")}
    assert not torch.allclose(outputs(alone["one"].model), outputs(alone["other"].model), atol=1e-2)

    both = task.build(str(tmp_path / "one"))
    shared: Any = both.model
    with quiet():
        shared.load_adapter(str(tmp_path / "other"), "other")
    fuse(shared)  # as in training and evaluation
    for adapter, name in (("default", "one"), ("other", "other"), ("default", "one")):
        shared.set_adapter(adapter)
        torch.testing.assert_close(outputs(shared), outputs(alone[name].model))
        assert_same(said(task, both), said(task, alone[name]))
