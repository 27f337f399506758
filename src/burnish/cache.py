"""The user's cache folder: what is made once for all runs, and what is too large for memory while a run lasts."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $BURNISH_CACHE, else burnish's own folder in the user's cache folder; it need not exist yet."""
    if found := os.environ.get("BURNISH_CACHE"):
        return Path(found)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"
