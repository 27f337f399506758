from pathlib import Path

import pytest

from burnish.cache import cache_folder


def test_the_cache_folder_is_the_first_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("BURNISH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/nowhere/.cache/burnish")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/burnish")
    monkeypatch.setenv("BURNISH_CACHE", "/own")
    assert cache_folder() == Path("/own")
