"""Frozen layers read a run's texts before its first step, and what is learned is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer

import tiny
from burnish.models import kept_states
from burnish.recipe import Recipe
from burnish.records import dump_jsonl
from burnish.steps.train import trained
from burnish.tasks.classify import Classify

FROZEN = {"kind": "full", "freeze_layers": 1, "freeze_embeddings": True}
CASES: dict[str, tuple[Any, Any, int]] = {  # the task, the method, tokens a pass
    "a head": ({"kind": "classify"}, "head", 8192),
    "a layer and a head": ({"kind": "classify"}, FROZEN, 8192),
    "a retriever": ({"kind": "retrieve"}, FROZEN, 8192),
    "a retriever, whose vectors are cached": ({"kind": "retrieve"}, FROZEN, 64),
    "a re-ranker": ({"kind": "rerank", "loss": "listwise", "max_tokens": 64}, FROZEN, 8192),
}


def recipe(folder: Path, task: dict[str, Any], method: Any, **training: Any) -> Recipe:
    """Write a model and rows for the task; return how it is trained in three epochs."""
    tiny.tiny_bert(folder / "bert")
    rows = tiny.labelled(20) if task["kind"] == "classify" else tiny.pairs(20)
    (folder / "rows.jsonl").write_text(dump_jsonl(rows))
    still = {"epochs": 3, "batch": 8, "dropout": 0.0, "evaluations": 0, "precision": "fp32"}
    return Recipe.model_validate(
        {
            "task": task,
            "model": str(folder / "bert"),
            "method": method,
            "data": {"train": str(folder / "rows.jsonl")},
            "training": still | training,
        }
    )


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_learned_and_frozen_layers_read_each_row_once(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, method, tokens = CASES[case]
    asked = recipe(tmp_path, task, method, micro_tokens=tokens)
    read: list[int] = []
    forward = BertLayer.forward

    def counted(layer: nn.Module, states: torch.Tensor, *given: Any, **more: Any) -> Any:
        read.append(states.shape[0] * states.shape[1] if not layer.intermediate.dense.weight.requires_grad else 0)
        return forward(layer, states, *given, **more)

    monkeypatch.setattr(BertLayer, "forward", counted)
    logs, computed = [], []
    for most in (0, 1 << 20):
        monkeypatch.setattr(kept_states, "MOST", most)
        read.clear()
        run = trained(asked, tmp_path / f"run-{most}", say=lambda _: None, progress=lambda *_: None)
        logs.append([line["loss"] for line in run.lines("log.jsonl")])
        computed.append(sum(read))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    assert computed[1] < 0.6 * computed[0]


def test_rows_are_read_fewer_at_once_where_memory_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(tmp_path, {"kind": "classify"}, "head")
    plain = trained(asked, tmp_path / "plain", say=lambda _: None, progress=lambda *_: None)
    total_loss, said = Classify.total_loss, list[str]()

    def crowded(task: Classify, model: nn.Module, batch: Any) -> torch.Tensor:
        if task.count(batch) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return total_loss(task, model, batch)

    monkeypatch.setattr(Classify, "total_loss", crowded)
    run = trained(asked, tmp_path / "crowded", say=said.append, progress=lambda *_: None)
    losses = [[line["loss"] for line in each.lines("log.jsonl")] for each in (plain, run)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert any("memory does not hold" in line for line in said)
