"""Training in processes of their own, which a test may kill. They start from one that has torch loaded already."""

import multiprocessing
import os
import random
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FrameType
from typing import Any

from burnish.run import Run

TRAINING = ("/burnish/train/", "/burnish/run.py", "/burnish/tasks/", "/burnish/steps/train.py")
PRELOADED = ["worker", "burnish.cli", "burnish.steps.train", "burnish.methods.lora", "burnish.tasks.generate"]


def burnish(*arguments: str, at_call: int = 0, number: signal.Signals = signal.SIGKILL, env: Any = None) -> int:
    """Run the command line in a process of its own; return its exit code, negative for the signal that ended it.

    at_call: the call of one of burnish's training functions, counted from 1, at which the process sends itself the
    signal; 0 for never.
    """
    process = start(*arguments, at_call=at_call, number=number, env=env)
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def start(*arguments: str, at_call: int = 0, number: signal.Signals = signal.SIGKILL, env: Any = None) -> Any:
    """Start the command line in a process of its own."""
    process = _context().Process(target=_main, args=(arguments, at_call, int(number), env or {}), daemon=True)
    process.start()
    return process


def pair(*arguments: str) -> list[int | None]:
    """Run the command line in two processes that train together; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [start(*arguments, env={**world, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(2)]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def calls(arguments: tuple[str, ...], counted: Path) -> int:
    """Run the command line to its end and return how many calls of training functions it made."""
    assert burnish(*arguments, env={"COUNT_CALLS": str(counted)}) == 0
    return int(counted.read_text())


def killed_and_resumed(recipe: Path, folder: Path, *changes: str, seed: str) -> tuple[Path, Path]:
    """Train once without a stop, and once killed somewhere in the third quarter, with a checkpoint, and resumed.

    changes: to the recipe, as `--set` takes them. Returns the folders of the two runs.
    """
    whole, killed = folder / "whole", folder / "killed"
    settings = _set(changes)
    count = calls(("train", str(recipe), "--run", str(whole), *settings), folder / "calls")
    moment = random.Random(seed).randrange(count // 2, 3 * count // 4)
    assert burnish("train", str(recipe), "--run", str(killed), *settings, at_call=moment) == -signal.SIGKILL
    assert [*(killed / "checkpoints").glob("[0-9]*")]
    assert burnish("resume", str(killed)) == 0
    return whole, killed


def alone_and_in_a_pair(recipe: Path, folder: Path, *changes: str) -> tuple[list[Any], list[Any]]:
    """Train in one process and in two, and return the lines of both logs; changes: as in `killed_and_resumed`."""
    one, two = folder / "one", folder / "two"
    assert burnish("train", str(recipe), "--run", str(one), *_set(changes)) == 0
    assert pair("train", str(recipe), "--run", str(two), *_set(changes)) == [0, 0]
    return [*Run.open(one).lines("log.jsonl")], [*Run.open(two).lines("log.jsonl")]


def _set(changes: Sequence[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _main(arguments: tuple[str, ...], at_call: int, number: int, env: dict[str, str]) -> None:
    os.environ.update(env)
    sys.argv = ["burnish", *arguments]
    import torch

    from burnish.cli import main

    torch.set_num_threads(1)
    seen = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal seen
        if event == "call" and any(part in frame.f_code.co_filename for part in TRAINING):
            seen += 1
            if seen == at_call:
                os.kill(os.getpid(), number)

    sys.setprofile(count)
    try:
        main()
    finally:
        sys.setprofile(None)
        if counted := env.get("COUNT_CALLS"):
            Path(counted).write_text(str(seen))
