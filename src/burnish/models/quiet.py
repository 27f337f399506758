"""Libraries that draw bars and print tables, kept quiet: what they have to say is raised as an error instead."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import huggingface_hub.utils
from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Let no bar be drawn and nothing below an error be logged while a model is fetched, loaded or saved.

    What these libraries warn each other of (PEFT uses what transformers is going to remove) is left out as well.
    """
    settings: Any = logging
    hub: Any = huggingface_hub.utils
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    hub_bars = not hub.are_progress_bars_disabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()
