"""What the tests of all cells share: each cell is trained once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from every.backbones import make_backbones
from every.cells import Cell, Trained, train_cell


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of one network of each kind."""
    return make_backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="session")
def trained(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell], Trained]:
    """Return a function that trains a cell when it is first asked for."""
    folder = tmp_path_factory.mktemp("cells")

    @cache
    def train(cell: Cell) -> Trained:
        return train_cell(cell, backbones[cell.base], folder / cell.name)

    return train
