"""Frozen layers read a run's texts before its first step, and what is learned is the same."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer

import tiny
from burnish.models import kept_states
from burnish.recipe import Recipe
from burnish.records import Labelled, dump_jsonl
from burnish.steps.train import trained

FROZEN = {"kind": "full", "freeze_layers": 1, "freeze_embeddings": True}
CASES: dict[str, tuple[Any, Any, int]] = {  # the task, the method, tokens a pass
    "a head": ({"kind": "classify"}, "head", 8192),
    "a layer and a head": ({"kind": "classify"}, FROZEN, 8192),
    "a retriever": ({"kind": "retrieve"}, FROZEN, 8192),
    "a retriever, whose vectors are cached": ({"kind": "retrieve"}, FROZEN, 64),
    "a re-ranker": ({"kind": "rerank", "loss": "listwise", "max_tokens": 64}, FROZEN, 8192),
}


def rows(kind: str) -> str:
    if kind != "classify":
        return dump_jsonl(tiny.pairs(20))
    draw = random.Random(0)
    return dump_jsonl(
        Labelled(id=f"row{n}", text=f"{('cat', 'dog')[n % 2]} {tiny.sentence(draw, 1 + n % 7)}", label="ab"[n % 2])
        for n in range(20)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_learned_and_frozen_layers_read_each_row_once(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, method, tokens = CASES[case]
    tiny.tiny_bert(tmp_path / "bert")
    (tmp_path / "rows.jsonl").write_text(rows(task["kind"]))
    recipe = Recipe.model_validate(
        {
            "task": task,
            "model": str(tmp_path / "bert"),
            "method": method,
            "data": {"train": str(tmp_path / "rows.jsonl")},
            "training": {"epochs": 3, "batch": 8, "dropout": 0.0, "evaluations": 0, "precision": "fp32"}
            | {"micro_tokens": tokens},
        }
    )
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
        run = trained(recipe, tmp_path / f"run-{most}", say=lambda _: None, progress=lambda *_: None)
        logs.append([line["loss"] for line in run.lines("log.jsonl")])
        computed.append(sum(read))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    assert computed[1] < 0.6 * computed[0]
