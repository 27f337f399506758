"""Real data sets for tests: a folder `shared/data` in or beside the repository, or where BURNISH_DATA says."""

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_PLACES = [_ROOT / "shared" / "data", _ROOT.parent / "shared" / "data"]


def real_data(name: str) -> Path:
    """Return the folder of a data set; skip the test where it is not here."""
    told = os.environ.get("BURNISH_DATA")
    for place in [Path(told)] if told else _PLACES:
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"the data set {name} is not here; BURNISH_DATA names a folder that holds it")
