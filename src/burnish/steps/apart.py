"""A training in a process of its own: its peak memory is its own, and all of it is given back."""

import ctypes
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from burnish.errors import RunError
from burnish.recipe import Recipe
from burnish.retrievers import Progress
from burnish.steps.train import Say, resume, train
from burnish.train.signals import EXIT_CODES

PRELOADED = ["burnish.steps.train", "burnish.methods.lora", "transformers.models.auto.modeling_auto"]


def train_apart(recipe: Recipe, folder: Path, *, say: Say, progress: Progress, before: bool = True) -> float:
    """Train in a new process, forked from one that has the libraries loaded; return its peak memory in MB.

    before: as in `train`.
    Errors are raised here as they were there. SIGTERM and SIGINT are passed on, so that the training saves itself.

    Raises:
        RunError: the process ended without a word, killed for its memory perhaps.
    """
    return _apart(_train, (recipe.model_dump(mode="json"), str(folder), before), folder, say, progress)


def resume_apart(folder: Path, *, say: Say, progress: Progress) -> float:
    """Go on with a run as `train_apart` trains one."""
    return _apart(_resume, (str(folder),), folder, say, progress)


def _apart(job: Callable[..., None], arguments: tuple[Any, ...], folder: Path, say: Say, progress: Progress) -> float:
    """Run a job in a process of its own, and hear what it says.

    Raises:
        RunError: it ended without a word.
    """
    _give_back()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        with _passed_on(process):
            while True:
                kind, *what = ours.recv()
                if kind == "say":
                    say(*what)
                elif kind == "progress":
                    progress(*what)
                elif kind == "raised":
                    raise what[0]
                else:
                    return float(what[0])
    except EOFError:
        process.join()
        raise RunError(
            f"{folder}: the training's process ended with exit code {process.exitcode}; where it was killed for its "
            "memory (-9), lower training.micro_tokens"
        ) from None
    finally:
        process.terminate()
        process.join()


def _give_back() -> None:
    """Return freed memory to the system, where the C library can: it would stand beside what the training needs."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def _passed_on(process: BaseProcess) -> Iterator[None]:
    """Pass signals that ask to stop on to the process; the earlier handlers come back afterwards."""

    def handler(number: int, _: FrameType | None) -> None:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, number)

    if current_thread() is not main_thread():  # handlers may be set in the main thread only
        yield
        return
    earlier = {number: signal.signal(number, handler) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)


def _work(job: Callable[..., None], arguments: tuple[Any, ...], pipe: Connection) -> None:
    """Do the job, and tell the other side how it goes."""
    os.setsid()  # a terminal's Ctrl-C comes to the other side, which passes it on
    try:
        job(*arguments, _Told(pipe, "say"), _Told(pipe, "progress"))
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))  # our own error, and to nobody but ourselves
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        pipe.send(("raised", error))
    else:
        pipe.send(("done", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


class _Told:
    """Sends what it is called with to the other side."""

    def __init__(self, pipe: Connection, kind: str) -> None:
        self._pipe, self._kind = pipe, kind

    def __call__(self, *what: Any) -> None:
        self._pipe.send((self._kind, *what))


def _train(recipe: dict[str, Any], folder: str, before: bool, say: Say, progress: Progress) -> None:
    train(Recipe.model_validate(recipe), Path(folder), say=say, progress=progress, before=before)


def _resume(folder: str, say: Say, progress: Progress) -> None:
    resume(Path(folder), say=say, progress=progress)
