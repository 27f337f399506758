"""Additions in formats of our own: put into a network, written without it, and put back whole or not at all."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.spec import Spec, faults

_PLACE = "burnish_addition"  # of a network's addition among its attributes


class Settings(Spec):
    """What an addition is made of, as it is saved beside its weights."""

    fresh: tuple[str, ...] = ()  # prefixes of the new parts that were trained with it
    base: str = ""  # the model that it was trained on


Own = TypeVar("Own", bound=Settings)


@dataclass(frozen=True)
class Form(Generic[Own]):
    """A kind of addition: modules of one name inside a network, and the two files that they are saved in.

    name: of the modules and of the files. method, what: how sentences call the method, and the modules (plural).
    put: puts new modules into a network, in place.
    """

    name: str
    method: str
    what: str
    settings: type[Own]
    put: Callable[[nn.Module, Own], None]

    @property
    def config(self) -> str:
        """The file that holds the settings, by which a folder is known."""
        return f"{self.name}_config.json"

    @property
    def weights(self) -> str:
        """The file that holds the weights."""
        return f"{self.name}.safetensors"

    def inject(self, network: nn.Module, settings: Own) -> None:
        """Put new modules into the network; from then on `save_pretrained` writes them, and not the network.

        Raises:
            ModelError: it has an addition already, or there is no place for one.
        """
        if _PLACE in vars(network):
            form, _ = vars(network)[_PLACE]
            raise ModelError(f"method {self.method}: this {type(network).__name__} has {form.what} already")
        self.put(network, settings)
        outer: Any = network
        setattr(network, _PLACE, (self, settings))
        outer.save_pretrained = partial(self.save, network)

    def train_alone(self, network: nn.Module, fresh: tuple[str, ...]) -> None:
        """Let the addition and the new parts train, and nothing else."""
        for name, weight in network.named_parameters():
            weight.requires_grad = self._owns(name, fresh)

    def save(self, network: nn.Module, folder: str | Path) -> None:
        """Write the addition and the new parts; the network is what it was, and is not written.

        Raises:
            ModelError: the network has none of this kind.
        """
        form, settings = vars(network).get(_PLACE, (None, None))
        if form is not self:
            raise ModelError(f"this {type(network).__name__} has no {self.what} to save")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = self._own_state(network, settings.fresh)
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in own.items()}
        save_file(weights, folder / self.weights, metadata={"format": "pt"})
        (folder / self.config).write_text(json.dumps(settings.model_dump(mode="json"), indent=2) + "\n", "utf-8")

    def load(self, network: nn.Module, folder: str | Path) -> None:
        """Put a saved addition, and the new parts that were trained with it, into the network, in place.

        Raises:
            ModelError: the folder has none, it cannot be read, or it does not fit this network.
        """
        folder = Path(folder)
        settings = self._read_settings(folder / self.config)
        weights = self._read_weights(folder)
        self.inject(network, settings)
        self._copy(weights, network, settings, folder)

    def begin(self, network: nn.Module, folder: str | Path) -> None:
        """Give the addition that a network has the numbers of a saved one.

        Raises:
            ModelError: the folder has none, it cannot be read, or it does not fit.
        """
        settings = self._read_settings(Path(folder) / self.config)
        self._copy(self._read_weights(Path(folder)), network, settings, Path(folder))

    def _read_weights(self, folder: Path) -> dict[str, Tensor]:
        """Return the saved weights.

        Raises:
            ModelError: they cannot be read.
        """
        try:
            return load_file(folder / self.weights)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / self.weights}: these {self.what}' weights cannot be read: {error}") from error

    def _copy(self, weights: dict[str, Tensor], network: nn.Module, settings: Own, folder: Path) -> None:
        """Copy saved weights into a network that has an addition of this kind.

        Raises:
            ModelError: they do not fit.
        """
        own = self._own_state(network, settings.fresh)
        wrong = misfits(weights, own, place="network")
        if wrong:
            raise ModelError(
                f"{folder}: these {self.what} were trained on {settings.base or 'another model'} and do not fit "
                f"{type(network).__name__}: {'; '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])

    def is_on(self, network: nn.Module) -> bool:
        """Tell whether a network has an addition of this kind."""
        return vars(network).get(_PLACE, (None, None))[0] is self

    def _owns(self, name: str, fresh: tuple[str, ...]) -> bool:
        """Tell whether a parameter belongs to the addition or to the new parts."""
        return f".{self.name}." in name or name.startswith(fresh)

    def _own_state(self, network: nn.Module, fresh: tuple[str, ...]) -> dict[str, Tensor]:
        """Return what is saved, by name: the addition, and the new parts with their buffers."""
        state: dict[str, Tensor] = network.state_dict()
        return {name: value for name, value in state.items() if self._owns(name, fresh)}

    def _read_settings(self, file: Path) -> Own:
        """Return the saved settings.

        Raises:
            ModelError: there are none, or they are not ours.
        """
        if not file.is_file():
            raise ModelError(f"{file.parent}: this is no folder of {self.what}: there is no {file.name} in it")
        try:
            return self.settings.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise ModelError(f"{file}: {'; '.join(faults(error, self.settings))}") from error


def misfits(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], *, place: str) -> list[str]:
    """Return what keeps saved weights from taking the place of others of the same names; nothing where they fit.

    place: what a sentence calls the holder of `own`.
    """
    return [
        *(f"{name} is missing from the file" for name in own if name not in weights),
        *(f"{name} has no place in the {place}" for name in weights if name not in own),
        *(
            f"{name} is {tuple(weights[name].shape)} in the file and {tuple(value.shape)} in the {place}"
            for name, value in own.items()
            if name in weights and weights[name].shape != value.shape
        ),
    ]
