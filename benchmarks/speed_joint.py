"""A step of joint training, for benchmarks/speed.py: burnish beside the same loss in one plain graph."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from joint import data_of
from joint_rows import FULL, PROMPT, TOKENS
from speed_work import LORA, OURS, Asked, System, Told, Work, begun, fitted, order_of
from torch import Tensor

from burnish.methods import Method
from burnish.models import joint_loss
from burnish.models.padding import network_inputs, pad_right
from burnish.records import Question, read_jsonl
from burnish.tasks.rag import Rag

LORA_RATE = 5e-4


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write a corpus of a few hundred passages, and questions with their answers."""
    data, _, _ = data_of(folder, quick=True)
    count = asked["steps"] * asked["batch"]
    task = {"passages": str(data.beir), "top_k": asked["top_k"]}
    asked = {**asked, "rows": str(data.questions()), "count_rows": count, "task": task, "rate": LORA_RATE}
    built, _ = begun(_task(asked), asked["writer"], _method(asked))
    items = _task(asked).encode(_rows(asked), built).items
    return {**asked, "order": order_of(items, asked["batch"])}


def _rows(asked: Asked) -> list[Question]:
    return read_jsonl(Path(asked["rows"]), Question)[: asked["count_rows"]]


def _task(asked: Asked) -> Rag:
    settings = {
        "retriever": asked["encoder"],
        "retriever_method": FULL,
        "loss": "rag_sequence",
        "prompt": PROMPT,
        **TOKENS,
    }
    if asked.get("system") == "one-pass":
        settings["pass_tokens"] = 2**20
    return Rag.model_validate({**settings, **asked["task"]})


def _method(asked: Asked) -> Method:
    return _task(asked).adapted_by(Method.read({**LORA, "learning_rate": LORA_RATE}))


def _turn(asked: Asked) -> Told:
    task, method, rows = _task(asked), _method(asked), _rows(asked)
    built, model = begun(task, asked["writer"], method)
    items = task.encode(rows, built).items

    def plainly(joint: Any, prompts: Any, _places: Any = None, **_: Any) -> list[Tensor]:
        return _answers(joint.generator, [row for own in prompts for row in own])

    form = mock.patch.object(joint_loss, "answers_of", plainly) if asked["system"] == "graph" else nullcontext()
    with form:
        return fitted(task, built, model, method, items, asked, dropout=0.0)


def _answers(generator: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """Return ln of each answer's tokens: all prompts padded to one rectangle, all logits, all in one graph."""
    ids, mask = pad_right([[*prompt, *answer[:-1]] for prompt, answer in rows])
    logits = generator(**network_inputs(generator, ids, mask), use_cache=False).logits
    logps = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    found = []
    for place, (prompt, answer) in enumerate(rows):
        behind = logps[place, len(prompt) - 1 : len(prompt) - 1 + len(answer)]
        found.append(behind.gather(1, torch.tensor(answer)[:, None])[:, 0])
    return found


WORK = Work(
    label="Joint step, MiniLM and SmolLM2-135M",
    unit="questions",
    systems={
        **OURS,
        "one-pass": System("burnish", "a step as one pass", "auto"),
        "graph": System("one graph, padded, all logits", "plain", "auto"),
    },
    size={"steps": 4, "batch": 8, "top_k": 8},
    quick={"steps": 2, "batch": 2, "top_k": 4},
    begin=_begin,
    turn=_turn,
    note="`rag_sequence`, both halves learn, eight passages a question; plain: the same loss without our tricks.",
)
