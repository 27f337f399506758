"""A training in a process of its own: its peak memory is its own, and all of it is given back."""

import multiprocessing
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from burnish.errors import BurnishError, RunError
from burnish.recipe import Recipe
from burnish.retrievers import Progress
from burnish.steps.train import Say, train

PRELOADED = ["burnish.steps.train", "burnish.methods.lora", "transformers.models.auto.modeling_auto"]


def train_apart(recipe: Recipe, folder: Path, *, say: Say, progress: Progress) -> float:
    """Train in a new process, forked from one that has the libraries loaded; return its peak memory in MB.

    Raises:
        BurnishError: what the training raised.
        RunError: the process ended without a word, killed for its memory perhaps.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(recipe.model_dump(mode="json"), str(folder), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
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
        raise RunError(f"{folder}: the training's process ended with exit code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()


def _work(recipe: dict[str, Any], folder: str, pipe: Connection) -> None:
    """Train, and tell the other side how it goes."""
    try:
        train(
            Recipe.model_validate(recipe),
            Path(folder),
            say=lambda line: pipe.send(("say", line)),
            progress=lambda what, done, of: pipe.send(("progress", what, done, of)),
        )
    except BurnishError as error:
        pipe.send(("raised", error))
    else:
        pipe.send(("done", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
