"""A retriever and a generator as one network that trains: two halves, each saved as other libraries load it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.errors import ModelError
from burnish.methods import Method
from burnish.models.encode import Encoder
from burnish.models.load import load_writer
from burnish.models.save import save_network
from burnish.models.towers import BiEncoder, Towers, load_bi_encoder
from burnish.text import TextFormat

RETRIEVER, GENERATOR = "retriever", "generator"  # the halves' names, in a saved folder too


class Joint(nn.Module):
    """A retriever and a generator; `tokenizer` is the generator's."""

    def __init__(self, retriever: BiEncoder, generator: nn.Module, tokenizer: Any) -> None:
        """Take both; two towers of which that of passages is held (`Towers.hold_passages`) leave an index exact."""
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, retriever: str, generator: str, *, form: dict[str, Any], both_towers: bool = False) -> "Joint":
        """Load both halves in fp32. form: of the retriever's `TextFormat`.

        both_towers: whether the passages' tower is to move; one tower alone stays one. Else it is held, and a retriever
        of one tower becomes two that begin alike.

        Raises:
            ModelError: one of them cannot be found or is damaged.
        """
        encoder = load_bi_encoder(retriever, dtype=torch.float32)
        towers: BiEncoder = encoder
        if not both_towers:
            towers = Towers.beginning_as(encoder) if isinstance(encoder, Encoder) else encoder
            towers.hold_passages()
        towers.read_by(TextFormat.model_validate({**towers.format.model_dump(), **form}))
        network, tokenizer = load_writer(generator, dtype=torch.float32)
        return cls(towers, network, tokenizer)

    @property
    def config(self) -> Any:
        """The generator's configuration; methods and libraries look for it here."""
        return self.generator.config

    def save(self, folder: Path) -> None:
        """Write `retriever`, as sentence-transformers loads it, and `generator`, as transformers or PEFT does."""
        self.retriever.save(folder / RETRIEVER)
        save_network(self.generator, self.tokenizer, folder / GENERATOR)


def halves_in(model: str) -> tuple[str, str] | None:
    """Return the halves' folders in one that `Joint.save` has written; None where the model is another."""
    folder = Path(model)
    found = tuple(str(folder / half) for half in (RETRIEVER, GENERATOR))
    return (found[0], found[1]) if all(Path(half).is_dir() for half in found) else None


class Halves(Method):
    """A method for each half; None: it stands still. A retriever's rate keeps its ratio to the generator's."""

    learning_rate: float = 1.0
    retriever: Method | None
    generator: Method | None

    @classmethod
    def of(cls, retriever: Method | None, generator: Method | None) -> "Halves":
        """Return the method whose rate is the generator's, or the retriever's where that alone moves."""
        lead = generator or retriever
        assert lead is not None, "one half moves"
        return cls(retriever=retriever, generator=generator, learning_rate=lead.learning_rate)

    def rate_factor(self, name: str) -> float:
        """Return the half's rate over that of the whole, times its own factor."""
        half, _, rest = name.partition(".")
        method = self._method(half)
        return method.learning_rate / self.learning_rate * method.rate_factor(rest)

    def start(self, name: str, layer: int | None, layers: int) -> float:
        """Return what the half's method says."""
        half, _, rest = name.partition(".")
        return self._method(half).start(rest, layer, layers)

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Let each half's method choose its weights; a half without one gets no gradient.

        Raises:
            ModelError: a half that is to move has no weight that does.
        """
        assert not fresh, "no part of a joint model is new"
        for half in (RETRIEVER, GENERATOR):
            method: Method | None = getattr(self, half)
            network = getattr(model, half)
            if method is None:
                network.requires_grad_(False)
                continue
            network = method.apply(network)
            if not any(weight.requires_grad for weight in network.parameters()):
                raise ModelError(f"method {method.kind} leaves no weight of the {half} to train, and it is to move")
            setattr(model, half, network)
        return model

    def _method(self, half: str) -> Method:
        found: Method = getattr(self, half)
        return found
