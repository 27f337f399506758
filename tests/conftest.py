"""For every test: one seed, one thread, no network, no model hub; with `-n`, who share a fixture go together."""

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch

# Read when huggingface_hub and tokenizers are imported, which no test file does before this one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

torch.set_num_threads(1)  # tiny models: threads cost more than they bring


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let a test and its fixtures draw the same random numbers whatever ran before it."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file to one worker, and of a file that trains cells each cell: what a test needs is made once."""
    for item in items:
        cell = (
            item.callspec.params.get("cell")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        item.add_marker(pytest.mark.xdist_group(cell.name if cell else item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test that connects to another machine."""
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            # Not an Exception: a library that falls back after a failed connection must not hide it.
            pytest.fail(f"this test opens a connection to {address[0]}")
        return connect(self, address)

    return guarded


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
