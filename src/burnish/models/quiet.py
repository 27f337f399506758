"""Libraries that draw bars and print tables, kept quiet: what they have to say is raised as an error instead."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers draw no bar and log nothing below an error while a model is loaded, converted or saved."""
    settings: Any = logging
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bars of GGUF files ask nobody
            yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()
