"""Loading by the libraries: safely, whole or not at all, and every fault as one sentence."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from burnish.errors import ModelError
from burnish.models.quiet import quiet

FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, SafetensorError)


def safely(dtype: torch.dtype) -> dict[str, Any]:
    """Return how every model is loaded: from safetensors, on disk, without foreign code, faults told."""
    return {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
        "output_loading_info": True,
    }


@contextmanager
def loading(name: str, what: str) -> Iterator[None]:
    """Turn what goes wrong in the libraries into one sentence.

    Raises:
        ModelError: anything went wrong.
    """
    try:
        with quiet():
            yield
    except FAULTS as error:
        raise ModelError(f"{name}: this cannot be loaded as {what}: {first_line(error)}") from error


def require_whole(name: str, what: str, *, missing: Iterable[str], unexpected: Iterable[str], advice: str = "") -> None:
    """Check that file and network have the same weights.

    advice: what else to say where they have not.

    Raises:
        ModelError: they do not: the library would go on with random ones, or leave some out.
    """
    faults = [
        f"{', '.join(sorted(keys)[:3])}{' …' if len(keys) > 3 else ''} {how}"
        for keys, how in (([*missing], "is missing from the file"), ([*unexpected], "has no place in the network"))
        if keys
    ]
    if faults:
        raise ModelError(f"{name}: this does not fit as {what}: {'; '.join(faults)}{advice}")


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, or the name of its error where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
