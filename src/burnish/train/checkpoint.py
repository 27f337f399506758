"""Checkpoints: whole or absent, checked when read, without pickle."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.errors import RunError
from burnish.run import checksum, new_folder, read_json, write_json
from burnish.train.processes import Recent

PLAIN = "#number"  # marks what an optimizer keeps as a number of Python's
KEPT = 2  # the newest, and one to fall back on


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands after a step; what else is needed follows from the recipe and the step."""

    step: int
    data: str  # fingerprint of the training items, the recipe and the number format
    best: float | None = None
    best_step: int = 0
    since_best: int = 0
    micro_tokens: int | None = None  # a pass, the recipe's or what memory held of it
    recent: Recent = field(default_factory=dict)  # what sets the last steps told of


class Checkpoints:
    """The checkpoints of one run: `checkpoints/000400/{weights,optimizer}.safetensors, state.json, manifest.json`."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        """Keep them in `folder`; what a person must hear goes through `say`."""
        self.folder = folder
        self._say = say

    def save(self, state: State, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint beside its place, rename it, then remove the oldest ones."""
        members = [weight for group in optimizer.param_groups for weight in group["params"]]
        moments = {
            f"{place}.{key}{'' if isinstance(value, Tensor) else PLAIN}": torch.as_tensor(value).detach().cpu().clone()
            for place, weight in enumerate(members)
            for key, value in optimizer.state.get(weight, {}).items()
            if value is not None
        }
        self._write(f"{state.step:06d}", {"weights": _numbered(weights), "optimizer": moments}, asdict(state))
        for old in self._names()[:-KEPT]:
            shutil.rmtree(self.folder / old)

    def load(
        self, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer, *, data: str
    ) -> tuple[State, list[Tensor]] | None:
        """Read the newest checkpoint that is whole, falling back aloud; None where there is none.

        Sets the optimizer's state and returns the weights.

        Raises:
            RunError: checkpoints exist, and none of them can be read, or they belong to other data than `data`.
        """
        for cut_short in self.folder.glob(".*"):  # a kill in the middle of writing leaves its unfinished folder
            shutil.rmtree(cut_short)
        names = self._names()
        for name in reversed(names):
            try:
                tensors, state = self._read(name)
            except (RunError, OSError) as error:
                self._say(f"{error}; falling back to the checkpoint before it")
                continue
            if state["data"] != data:
                raise RunError(
                    f"{self.folder}: these checkpoints were made from other rows or settings than this recipe's; "
                    "train in another folder"
                )
            packed: dict[int, dict[str, Tensor | float]] = {}
            for key, value in tensors["optimizer"].items():
                place, name_of = key.split(".", 1)
                inner = packed.setdefault(int(place), {})
                inner[name_of.removesuffix(PLAIN)] = value.item() if name_of.endswith(PLAIN) else value
            optimizer.load_state_dict({"state": packed, "param_groups": optimizer.state_dict()["param_groups"]})
            return State(**state), [tensors["weights"][str(place)] for place in range(len(weights))]
        if names:
            raise RunError(f"{self.folder}: none of the checkpoints {', '.join(names)} can be read; start anew")
        return None

    def save_best(self, step: int, weights: Sequence[Tensor]) -> None:
        """Keep these weights as the best so far."""
        self._write("best", {"weights": _numbered(weights)}, {"step": step})

    def load_best(self, count: int) -> list[Tensor]:
        """Return the best weights."""
        tensors, _ = self._read("best")
        return [tensors["weights"][str(place)] for place in range(count)]

    def clear(self) -> None:
        """Remove all checkpoints: the finished model holds what they were for."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _names(self) -> list[str]:
        return sorted((p.name for p in self.folder.glob("[0-9]*")), key=int) if self.folder.is_dir() else []

    def _write(self, name: str, files: dict[str, dict[str, Tensor]], state: dict[str, object]) -> None:
        with new_folder(self.folder / name) as beside:
            for stem, tensors in files.items():
                save_file(tensors, beside / f"{stem}.safetensors")
            write_json(beside / "state.json", state)
            write_json(beside / "manifest.json", {path.name: checksum(path) for path in sorted(beside.iterdir())})

    def _read(self, name: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Read one checkpoint.

        Raises:
            RunError: a file of it is missing or is not what was written.
        """
        folder = self.folder / name
        for file, expected in read_json(folder / "manifest.json").items():
            if not (folder / file).is_file() or checksum(folder / file) != expected:
                raise RunError(f"{folder / file}: this file is damaged: its checksum is not the one in manifest.json")
        tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
        return tensors, read_json(folder / "state.json")


def _numbered(weights: Sequence[Tensor]) -> dict[str, Tensor]:
    return {str(place): weight.detach().cpu().contiguous() for place, weight in enumerate(weights)}
