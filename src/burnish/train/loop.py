"""The loop: the only place where weights move.

A task gives the SUM of its loss over a batch, and says beforehand how many units that is. The loop divides once, by
the units of all micro-batches of all processes, so neither how a step is cut nor who computes it changes the numbers.
Gradients are added up in fp32 and reduced once a step: a process without rows, or a weight that got no gradient, adds
zero.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from burnish.errors import DivergedError, Interrupted
from burnish.methods import Method
from burnish.models.recompute import recompute_layers
from burnish.tasks import Item, Sampler, Task
from burnish.train.batches import Plan, evaluation_steps, token_counts
from burnish.train.check import require_finite, set_dropout
from burnish.train.checkpoint import Checkpoints, State
from burnish.train.cut import Cut, within_memory
from burnish.train.fused import fuse
from burnish.train.mixing import Sets
from burnish.train.optimizer import build_optimizer, schedule_factor, set_rates, start_shares
from burnish.train.processes import add_up, agreed_dtype, means, summed
from burnish.train.read_once import read_once
from burnish.train.settings import Training
from burnish.train.signals import StopRequest, watched_signals
from burnish.train.weights import Weights

Log = Callable[[str, Mapping[str, object]], None]  # the file's name, the line


@dataclass(frozen=True, slots=True)
class Watch:
    """What is scored while training: higher is better."""

    metric: str
    score: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Course:
    """All that a run needs beside the model: what stays the same from the first step to the last."""

    task: Task
    items: Sequence[Item]
    training: Training
    method: Method
    fresh: tuple[str, ...]
    seed: int
    data: str  # fingerprint of the items and the recipe: a checkpoint of another one is refused
    log: Log
    checkpoints: Checkpoints
    rewind: Callable[[int], None]  # forget the log after a step
    watch: Watch | None = None
    rehearsed: int = 0  # of the items, the last ones, are mixed into the others
    share: float = 0.0  # of each step's rows, for these
    sets: Sets | None = None  # that the other items are of, where there are several
    build: Callable[..., torch.optim.Optimizer] = build_optimizer
    sampler: Sampler | None = None  # makes a step's items from its rows, where the task does not find them ready
    say: Callable[[str], None] = lambda _: None  # hears what a person should know


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; `reason` says why it ended before its last step, or is empty."""

    steps: int
    best: float | None
    best_step: int
    reason: str


def fit(model: nn.Module, course: Course) -> Outcome:
    """Train the model in place; afterwards it holds the weights to keep, in fp32.

    Goes on from the newest good checkpoint of the same run, bit for bit as if it had never stopped (on a CPU).

    Raises:
        Interrupted: SIGTERM or SIGINT came; a checkpoint was saved.
        DivergedError: the loss or the gradient is not finite; no step was made with it.
        ModelError: a dropout is asked for, and the model has no layer that drops anything.
        RunError: the checkpoints belong to other data or another recipe, or none can be read.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())  # else it lets several processes run apart
    training, sizes = course.training, token_counts(course.items)
    model.to(accelerator.device)
    fuse(model)
    if training.dropout is not None:
        set_dropout(model, training.dropout)
    recompute_layers(model, on=training.gradient_checkpointing)
    weights = Weights(model, agreed_dtype(training), keep_start=bool(training.l2_start or training.interpolate < 1))
    optimizer = course.build(weights.names, weights.masters, training, course.method, fresh=course.fresh)
    weights.kept, weights.parts = course.task.begin(model), course.task.parts
    plan = Plan(sizes, training.batch, training.epochs, course.seed, course.rehearsed, course.share, course.sets)
    steps, state = plan.steps, _resume(course, weights, optimizer)
    starts, reason = start_shares(weights.names, course.method, fresh=course.fresh), ""
    ready = [] if course.sampler else course.items
    with watched_signals() as request, read_once(model, course.task, ready, sizes, training, course.say):
        for step in range(state.step, steps):
            if any(starts.values()) or course.task.takes_turns:
                weights.open([step >= at * steps and course.task.moves(w, step, steps) for w, at in starts.items()])
            state = _step(model, course, plan, weights, optimizer, accelerator, state)
            if course.watch and step + 1 in evaluation_steps(steps, training.evaluations):
                state = _evaluate(model, course, course.watch, weights, accelerator, state)
                if training.patience and state.since_best >= training.patience:
                    reason = _stopped_early(course.watch, state)
                    break
            _save(course, weights, optimizer, accelerator, state, request, steps)
    if course.watch and training.keep == "best" and state.best is not None and state.best_step != state.step:
        weights.load(course.checkpoints.load_best(len(weights.masters)))
    weights.interpolate(training.interpolate)
    weights.restore()
    recompute_layers(model, on=False)
    model.eval()
    return Outcome(state.step, state.best, state.best_step, reason)


def _step(
    model: nn.Module,
    course: Course,
    plan: Plan,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    state: State,
) -> State:
    """Make one step and log it: one update of the weights, or several on the same batches where the task says so."""
    started, step = time.perf_counter(), state.step
    training, task, tokens, steps = course.training, course.task, plan.tokens, plan.steps
    rows = plan.rows(step)
    mine = sorted(rows, key=lambda row: (tokens[row], row))[accelerator.process_index :: accelerator.num_processes]
    items = course.sampler(step, mine) if course.sampler else [course.items[row] for row in mine]
    ready = time.perf_counter()
    cut = Cut.of(task, model, items, budget=state.micro_tokens or training.micro_tokens)
    units = summed(accelerator, sum(task.count(batch) for batch in cut.batches))

    model.train()
    rate = set_rates(optimizer, schedule_factor(step, steps, training, warmup=course.method.warmup))
    for update in range(task.updates_a_step):
        loss, norm, bad, cut = _gradient(model, course, cut, units, weights, accelerator, -1 if update else step)
        suspects = [items[place] for number in bad for place in cut.groups[number]] or items
        require_finite(step, loss, norm, suspects, rate=training.learning_rate or course.method.learning_rate)
        optimizer.step()
        weights.publish()
        weights.clear()
        task.after_step(model, cut.batches)
    line = {"step": step + 1, "of": steps, "loss": loss, "grad_norm": norm, "lr": rate, "units": units}
    told, recent = means(accelerator, task.facts(items, cut.batches), state.recent)
    line |= weights.norms | told
    clock = {"step": step + 1, "seconds": 0.0, "tokens": summed(accelerator, sum(item.tokens for item in items))}
    if accelerator.is_main_process:
        course.log("log.jsonl", line)
        for text in task.shown(items):
            course.log("samples.jsonl", {"step": step + 1, **text})
        clock["seconds"] = time.perf_counter() - started
        course.log("clock.jsonl", clock | ({"sampling": ready - started} if course.sampler else {}))
    return replace(state, step=step + 1, recent=recent, micro_tokens=cut.budget)


def _gradient(
    model: nn.Module, course: Course, cut: Cut, units: float, weights: Weights, accelerator: Accelerator, step: int
) -> tuple[float, float, list[int], Cut]:
    """Make the gradient of the loss; return the loss, the gradient's norm, which batches' loss is not finite, the cut.

    step: on which dropout and hidden tokens depend, or below 0 where the last pass's batches are read once more.
    """

    def summed_up(batches: Sequence[Any]) -> list[float]:
        if step >= 0:
            torch.manual_seed(hash((course.seed, step)) & 0xFFFFFFFF)
        parts = []
        for batch in batches:
            part = course.task.total_loss(model, batch) / units
            torch.autograd.backward(part)
            weights.collect()
            parts.append(part.item())
        return parts

    if step < 0:  # batches remember the first pass, and new ones would not
        parts = summed_up(cut.batches)
    else:
        parts, cut = within_memory(cut, summed_up, again=weights.forget, say=course.say)
    add_up(accelerator, weights.gradients())
    weights.pull(course.training.l2_start)
    bad = [number for number, part in enumerate(parts) if not math.isfinite(part)]
    return summed(accelerator, math.fsum(parts)), weights.clip(course.training.clip), bad, cut


def _evaluate(
    model: nn.Module, course: Course, watch: Watch, weights: Weights, accelerator: Accelerator, state: State
) -> State:
    """Score the dev set, log it, and keep the weights if they are the best so far.

    Raises:
        DivergedError: the score is not finite.
    """
    model.eval()
    with torch.no_grad():
        value = watch.score()
    if not math.isfinite(value):
        raise DivergedError(f"step {state.step}: {watch.metric} of the dev rows is {value}; lower the learning rate")
    if accelerator.is_main_process:
        course.log("dev.jsonl", {"step": state.step, "metric": watch.metric, "value": value})
    if state.best is not None and value <= state.best:
        return replace(state, since_best=state.since_best + 1)
    if course.training.keep == "best" and accelerator.is_main_process:
        course.checkpoints.save_best(state.step, weights.masters)
    accelerator.wait_for_everyone()
    return replace(state, best=value, best_step=state.step, since_best=0)


def _save(
    course: Course,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    state: State,
    request: StopRequest,
    steps: int,
) -> None:
    """Save a checkpoint when one is due; leave the run when a signal asked for that.

    Raises:
        Interrupted: a signal came.
    """
    every = course.training.checkpoint_every
    stop = summed(accelerator, float(request.exit_code is not None)) > 0
    due = every and state.step % every == 0 and state.step < steps
    if (due or stop) and accelerator.is_main_process:
        course.checkpoints.save(state, weights.stored, optimizer)
    if stop:
        code = request.exit_code or 75
        raise Interrupted(f"stopped by a signal after step {state.step} of {steps}; the run can be resumed", code)


def _resume(course: Course, weights: Weights, optimizer: torch.optim.Optimizer) -> State:
    """Load the newest good checkpoint, if there is one, and cut the log back to it."""
    found = course.checkpoints.load(weights.stored, optimizer, data=course.data)
    if found is None:
        course.rewind(0)
        return State(step=0, data=course.data)
    state, values = found
    weights.resume(values)
    course.rewind(state.step)
    return state


def _stopped_early(watch: Watch, state: State) -> str:
    return (
        f"stopped after step {state.step}: {watch.metric} has not risen above {state.best:.4f} "
        f"(step {state.best_step}) for {state.since_best} evaluations"
    )
