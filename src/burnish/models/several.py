"""Several adapters on one backbone: switched by name, or mixed in one batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from peft import PeftConfig
from torch import nn

from burnish.errors import ModelError, near_miss
from burnish.models.adapted import PEFT, put_on

T = TypeVar("T")


class Several:
    """A backbone in memory once, with adapters of one kind (PEFT folders) that take turns on it."""

    def __init__(self, base: nn.Module, adapters: Mapping[str, Path]) -> None:
        """Put the adapters on the base: name → folder; the base alone is called by None.

        Raises:
            ModelError: there is none, a folder holds no PEFT adapter, they are of several kinds, or one does not fit.
        """
        if not adapters:
            raise ModelError("name at least one adapter: a name and its folder")
        kinds = {name: _kind(name, folder) for name, folder in adapters.items()}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
            raise ModelError(f"adapters on one backbone must be of one kind; here {told}")
        self.names = tuple(adapters)
        self.model: Any = base
        for name, folder in adapters.items():
            self.model = put_on(self.model, folder, name=name)
        self.model.eval()

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """Yield the model with this adapter on, or the base alone.

        Raises:
            ModelError: no adapter is called so.
        """
        if name is None:
            with self.model.disable_adapter():
                yield self.model
            return
        if name not in self.names:
            raise ModelError(
                f"no adapter is called {name!r}.{near_miss(name, self.names)} There are: {', '.join(self.names)}"
            )
        self.model.set_adapter(name)
        yield self.model

    def mixed(self, names: Sequence[str | None], run: Callable[[Any, list[int]], Sequence[T]]) -> list[T]:
        """Return the results of a batch whose rows ask for different adapters, in the order of the rows.

        run: called once for each adapter of the batch with the model and the places of its rows; returns a result a
        row. Rows of one adapter go through together, so the numbers are those of each adapter alone.
        """
        found: dict[int, T] = {}
        for name in dict.fromkeys(names):
            places = [place for place, asked in enumerate(names) if asked == name]
            with self.using(name) as model:
                found |= dict(zip(places, run(model, places), strict=True))
        return [found[place] for place in range(len(names))]


def _kind(name: str, folder: Path) -> str:
    """Return PEFT's name of an adapter's kind.

    Raises:
        ModelError: the folder holds none.
    """
    if not (folder / PEFT).is_file():
        raise ModelError(f"{folder}: adapter {name!r} is no PEFT adapter (there is no {PEFT} in its folder)")
    kind: str = PeftConfig.from_pretrained(str(folder)).peft_type.value
    return kind
