"""Estimate: memory and time of a training run, from one timed forward and backward pass."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from burnish.models.precision import chosen_dtype
from burnish.recipe import Recipe
from burnish.steps.items import Items, adapted, encoded_sets, mixture_lines
from burnish.train.batches import Plan, token_counts
from burnish.train.check import require_trainable
from burnish.train.fused import fuse

MEBI = 2**20


def estimate(
    recipe: Recipe, rows: Sequence[Any], rehearsed: Sequence[Any] = (), *, sizes: Sequence[int] = ()
) -> list[str]:
    """Return lines on trainable weights, steps, memory and time; one step is computed, and no weight moves.

    rehearsed: rows that are mixed into the others. sizes: rows of each set, where there are several.
    """
    task, training = recipe.task, recipe.training
    built = task.build(recipe.model)
    model = adapted(recipe, built)
    trainable, parameters = require_trainable(model, recipe.method)
    found, counts, notes = encoded_sets(recipe, rows, sizes, built)
    beside = task.encode(rehearsed, built).items if rehearsed else ()
    items = task.joined(found, beside)
    tokens = token_counts(items)
    share = recipe.data.rehearsal.share if recipe.data.rehearsal else 0.0
    sets = recipe.data.mixed(counts, sizes)
    plan = Plan(tokens, training.batch, training.epochs, recipe.seed, len(beside), share, sets)
    fuse(model)
    dtype = chosen_dtype(training.precision)
    for weight in filter(torch.is_floating_point, model.parameters()):
        weight.data = weight.data.to(dtype)
    task.begin(model)
    chosen = plan.rows(0)
    sampler = task.sampler(model, built, items, seed=recipe.seed)
    with TemporaryDirectory() as folder:
        task.prepare(model, [items[row] for row in chosen], cache=Path(folder), progress=lambda *_: None)
    started = time.perf_counter()
    made = sampler(0, chosen) if sampler else [items[row] for row in chosen]
    costs = [item.tokens for item in made]
    groups = task.micro_batches(model, range(len(made)), costs, budget=training.micro_tokens)
    batches = [task.collate([made[place] for place in group]) for group in groups]
    for batch in batches:
        torch.autograd.backward(task.total_loss(model, batch))
    task.after_step(model, batches)
    seconds = time.perf_counter() - started
    weights = parameters * dtype.itemsize + trainable * (4 * 4 if dtype.itemsize < 4 else 3 * 4)
    return [
        *(f"{reason}: {count}" for reason, count in notes.items()),
        *mixture_lines(recipe, Items(items, len(beside), share, notes, sets)),
        *task.audit(items, built),
        f"weights: {trainable:,} of {parameters:,} train ({recipe.method.kind}), computed in {dtype}",
        f"steps: {plan.steps} of {training.batch} rows; tokens an epoch: {sum(tokens):,}",
        f"memory: about {weights / MEBI:,.0f} MB for weights, gradients and moments, and activations beside them",
        f"time: about {seconds * plan.steps / 60:.1f} minutes, from one step timed at {seconds:.2f} s",
    ]
