"""What the workloads of benchmarks/speed.py share: what one is, and how burnish and a Trainer are timed on it."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback

from burnish.cache import cache_folder
from burnish.methods import Method
from burnish.models.precision import chosen_dtype
from burnish.models.start import rounded
from burnish.tasks import Built, Task
from burnish.train.batches import Plan, token_counts
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.processes import processes
from burnish.train.settings import Training

MODELS = {"writer": "embedded/smollm2", "encoder": "embedded/minilm"}  # of who does not ask for others
LORA = {"kind": "lora", "rank": 16, "alpha": 32}

Asked = dict[str, Any]  # by the driver, of a turn: the workload, the system, the format, the sizes, the files
Told = dict[str, Any]  # by a turn: seconds, units and tokens of each step, losses, and seconds before the first step


@dataclass(frozen=True)
class System:
    """Who does the work, and how it is set; precision: of what it computes in, as `burnish` names it."""

    name: str
    settings: str
    precision: str


def clock() -> float:
    """Return seconds: on a GPU once it has done all; of a processor those that this process had, of a shared core."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
        return time.perf_counter()
    return time.process_time()


OURS = {"burnish": System("burnish", "default", "auto"), "burnish-fp32": System("burnish", "fp32", "fp32")}


@dataclass(frozen=True)
class Work:
    """One kind of work, done by several systems on the same rows in the same batches.

    unit: what is counted beside tokens. size, quick: numbers that its turns read, `steps` and `batch` among them, whole
    and for a check that it runs. begin: of the models and sizes asked for, writes what all systems read into a folder,
    and says where it stands; `rows`, where they are given, are read in the place of its own. turn: does the work. note:
    what a reader must know of it. counted: whether FLOPs are counted.
    """

    label: str
    unit: str
    systems: Mapping[str, System]
    size: Mapping[str, int]
    quick: Mapping[str, int]
    begin: Callable[[Path, Asked], Asked]
    turn: Callable[[Asked], Told]
    note: str
    counted: bool = False


def begun(task: Task, model: str, method: Method) -> tuple[Built, Any]:
    """Return the model that all systems begin with, as the method adapts it."""
    torch.manual_seed(0)
    built = task.build(model)
    return built, method.apply(built.model, fresh=built.fresh)


def order_of(items: Sequence[Any], batch: int) -> list[int]:
    """Return the items' places in the order in which burnish's steps read them."""
    plan = Plan(token_counts(items), batch, 1, 0)
    return [place for step in range(plan.steps) for place in plan.rows(step)]


def keep_start(model: nn.Module, path: Path, names: Callable[[str], bool]) -> str:
    """Write the weights that are drawn at random, so that the peer begins with the same ones; return where."""
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items() if names(name)}, path)
    return str(path)


def begin_alike(model: nn.Module, path: str) -> None:
    """Give a peer's model the weights that `keep_start` wrote."""
    lacking = model.load_state_dict(load_file(path), strict=False)
    assert not lacking.unexpected_keys, lacking.unexpected_keys[:3]


def by_step(counts: Sequence[int], batch: int) -> list[int]:
    """Return the sum of each step; counts: of each row, in the order in which they are read."""
    return [sum(counts[first : first + batch]) for first in range(0, len(counts), batch)]


def fitted(
    task: Task, built: Built, model: Any, method: Method, items: Sequence[Any], asked: Asked, **training: Any
) -> Told:
    """Train by burnish's loop for one epoch; return seconds, tokens and losses by step, and seconds before them."""
    losses: list[float] = []
    moments: list[float] = []
    tokens: list[int] = []

    def log(name: str, line: Any) -> None:
        if name == "log.jsonl":
            losses.append(line["loss"])
        if name == "clock.jsonl":
            moments.append(clock())
            tokens.append(line["tokens"])

    said = Training(
        epochs=1,
        batch=asked["batch"],
        learning_rate=asked["rate"],
        precision=asked["precision"],
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        evaluations=0,
        checkpoint_every=0,
        **training,
    )
    began = clock()
    model.to(processes().device)
    dtype = chosen_dtype(said.precision)
    with rounded(model, dtype if task.prepares_as_it_trains else torch.float32):
        task.prepare(model, items, cache=cache_folder(), progress=lambda *_: None)
    course = Course(
        task=task,
        items=items,
        training=said,
        method=method,
        fresh=built.fresh,
        seed=0,
        data="rows",
        log=log,
        checkpoints=Checkpoints(Path(asked["told"]).parent / "checkpoints", print),
        rewind=lambda _: None,
        sampler=task.sampler(model, built, items, seed=0),
    )
    before = clock() - began
    moments.append(clock())
    counted = _counting() if asked.get("count") else None
    with counted or nullcontext():
        fit(model, course)
    return {
        "seconds": [end - start for start, end in pairwise(moments)],
        "before": before,
        "losses": losses,
        "tokens": tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "flops": counted.get_total_flops() if counted else 0,
    }


def _counting() -> FlopCounterMode:
    """Return what counts the operations of matrix products, two for each multiplication with its addition."""

    def product(_out: Sequence[int], left: Sequence[int], right: Sequence[int], **__: Any) -> int:
        return 2 * left[0] * left[1] * right[1]

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product})


@dataclass
class Clock(TrainerCallback):
    """Times the steps of a Trainer, and keeps their losses."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    began: float = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        self.began = clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Add what the step took."""
        self.seconds.append(clock() - self.began)

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **__: Any) -> None:
        """Add the step's loss."""
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


def trained_by(trainer: Any, timed: Clock) -> Told:
    """Train by a Trainer that the clock watches; return what it took."""
    trainer.train()
    dtype = "bfloat16" if trainer.args.bf16 else "float32"
    return {"seconds": timed.seconds, "before": 0.0, "losses": timed.losses, "dtype": dtype}


def peft_lora() -> Any:
    """Return what `LORA` is in PEFT's words."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=LORA["rank"],
        lora_alpha=LORA["alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
    )


def trl_settings(asked: Asked) -> dict[str, Any]:
    """Return what TRL's trainers are told; their own number format, bf16 by autocast, where none is named."""
    said = {**trainer_settings(asked), "max_length": asked["tokens"], "train_sampling_strategy": "sequential"}
    return said if asked["precision"] == "auto" else {**said, "bf16": asked["precision"] == "bf16"}


def trainer_settings(asked: Asked) -> dict[str, Any]:
    """Return what every Trainer is told: the same rows, in the same order, and the same rate."""
    return {
        "output_dir": str(Path(asked["told"]).parent / "trainer"),
        "num_train_epochs": 1,
        "per_device_train_batch_size": asked["batch"],
        "learning_rate": asked["rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
        "use_cpu": not torch.accelerator.is_available(),
    }
