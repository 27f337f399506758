"""What every task must show: it learns a few rows, and how a batch is cut changes neither loss nor gradient."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

import tiny
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.models.load import load_tokenizer
from burnish.tasks import Built, Sampler, Task
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.settings import Training


def learn(task: Task, built: Built, rows: Sequence[Any], folder: Path, *, steps: int, rate: float) -> list[float]:
    """Train every weight on all rows at once, and return the loss of each step."""
    method = Full(learning_rate=rate)
    items = task.encode(rows, built).items
    model = method.apply(built.model)
    task.prepare(model, items, cache=folder / "cache", progress=lambda *_: None)
    return fit_items(task, model, items, folder, method=method, fresh=built.fresh, epochs=steps, head_rate=rate)


def fit_items(
    task: Task,
    model: nn.Module,
    items: Sequence[Any],
    folder: Path,
    *,
    method: Method,
    fresh: tuple[str, ...],
    epochs: int,
    batch: int | None = None,
    head_rate: float | None = None,
    sampler: Sampler | None = None,
) -> list[float]:
    """Train a model that a method is on, and return the loss of each step; a batch is all items, if not said.

    What is trained by reward falls as that rises: there it is what the reward lacks to 1.
    """
    losses: list[float] = []

    def log(name: str, line: Any) -> None:
        if name == "log.jsonl":
            losses.append(1 - line["reward"] if "reward" in line else line["loss"])

    training = Training(
        epochs=epochs,
        batch=batch or len(items),
        precision="fp32",
        evaluations=0,
        dropout=0.0,
        weight_decay=0.0,
        head_learning_rate=head_rate,
        checkpoint_every=0,
    )
    course = Course(
        task=task,
        items=items,
        training=training,
        method=method,
        fresh=fresh,
        seed=0,
        data="rows",
        log=log,
        checkpoints=Checkpoints(folder / "checkpoints", losses.append),  # type: ignore[arg-type]
        rewind=lambda _: None,
        sampler=sampler,
    )
    fit(model, course)
    return losses


def summed(task: Task, model: nn.Module, items: Sequence[Any], *, size: int) -> tuple[float, int, Tensor]:
    """Return loss, units and gradient, added up over micro-batches of `size` items; dropout is off."""
    model.eval()
    model.zero_grad()
    total, units = 0.0, 0
    for first in range(0, len(items), size):
        batch = task.collate(items[first : first + size])
        loss = task.total_loss(model, batch)
        loss.backward()
        total += loss.item()
        units += task.count(batch)
    gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return total, units, torch.cat(gradients)


def check_micro_batches(task: Task, built: Built, rows: Sequence[Any]) -> None:
    """Check that micro-batches of 1, 2, 4 and all items add up to the same loss, units and gradient."""
    items = task.encode(rows, built).items
    whole, units, gradient = summed(task, built.model, items, size=len(items))
    assert units > 0
    assert gradient.abs().max() > 0
    for size in (1, 2, 4):
        loss, count, found = summed(task, built.model, items, size=size)
        assert count == units
        assert abs(loss - whole) <= 1e-5 * abs(whole)
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def typed_bert(folder: Path) -> Path:
    """Write a BERT whose tokenizer says which text of a pair each token is of."""
    tokenizer = load_tokenizer("typed", tiny.tiny_bert(folder))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_input_names": names}))
    return folder
