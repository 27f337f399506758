"""What an encoder's frozen lower layers make of a text, kept while a training lasts: no epoch computes it again."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from hashlib import blake2b
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from burnish.models.dropout import drops
from burnish.models.unpadded import ARGUMENTS, gives_the_same, is_stack, run, shown_tokens, spoken, width_of

MOST = 1 << 30  # bytes of states that are kept, over all stacks


class KeptStates(AbstractContextManager["KeptStates"]):
    """The lowest layers of a model's encoders, as many as stand still, read a text once while this lasts.

    Of stacks of BERT's form on a processor. A batch that is read while `fills` is true leaves the states of its texts,
    each under the digest of what the layers were given. Later batches are made of them where all their texts are there,
    and else computed as ever: what a step computes hangs on what was filled in alone, and not on where a run was cut.
    States are those of the batch that was filled in, up to the rounding of a product of another shape. What drops at
    random is never kept, nor what stands above something that learns.
    """

    def __init__(self, model: nn.Module, *, tokens: int) -> None:
        """tokens: of all texts that are to be filled in; nothing is kept of a stack where they take more than a GiB."""
        room = [MOST]
        self._stacks = [
            _Stack(module, room)
            for module in model.modules()
            if is_stack(module) and tokens * width_of(module) * next(module.parameters()).element_size() <= MOST
        ]
        self._handles: list[Any] = []

    def __enter__(self) -> "KeptStates":
        for stack in self._stacks:
            self._handles += stack.hooks()
        return self

    def __exit__(self, *raised: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def fills(self) -> bool:
        """Whether batches leave their states."""
        return any(stack.fills for stack in self._stacks)

    @fills.setter
    def fills(self, value: bool) -> None:
        for stack in self._stacks:
            stack.fills = value

    @property
    def can_fill(self) -> bool:
        """Whether a batch may leave states, as far as can be told before one is read."""
        return any(stack.frozen for stack in self._stacks)

    @property
    def texts(self) -> int:
        """How many texts' states are kept."""
        return sum(len(stack.states) for stack in self._stacks)


class _Stack:
    """A stack of layers and the states of texts behind its frozen ones. room: bytes left for all, its only element."""

    def __init__(self, stack: Any, room: list[int]) -> None:
        self.states: dict[bytes, Tensor] = {}  # each (tokens, width)
        self.fills = False
        self._stack, self._layers, self._room = stack, stack.layer, room
        own = {*self._layers.parameters()}
        self._beside = [weight for weight in stack.parameters() if weight not in own]  # that all layers may read
        self._of: tuple[tuple[int, int], ...] | None = None  # the weights that made the states, by place and changes
        self._splits = False  # whether the layers can be run in two parts
        self._inner = False  # whether some of the layers are being run

    def hooks(self) -> list[Any]:
        """Put this before and behind the stack; return what takes it away."""
        return [
            self._stack.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True),
            self._stack.register_forward_hook(self._after, always_call=True),
        ]

    @property
    def frozen(self) -> int:
        """How many of the lowest layers can be kept: on a processor, none of their weights moves, they drop nothing."""
        elsewhere = any(weight.device.type != "cpu" for weight in self._layers.parameters())
        if elsewhere or any(weight.requires_grad for weight in self._beside):
            return 0
        return sum(1 for _ in takewhile(_stands_still, self._layers))

    def _before(self, _stack: nn.Module, given: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
        """Give the upper layers what the frozen ones have made, where it is kept or is to be."""
        said = None if self._inner or not (self.states or self.fills) else spoken(given, settings)
        if said is None:
            return None
        states, mask = said[ARGUMENTS[0]], said.get(ARGUMENTS[1])
        frozen = 0 if states.requires_grad else self.frozen
        is_token = shown_tokens(states, mask) if frozen else None
        if is_token is None or not self._stays_the_same(frozen):
            return None
        names = [_digest(text[own]) for text, own in zip(states, is_token, strict=True)]
        if self.fills:
            found = self._filled_in(frozen, names, states, mask, is_token)
        elif all(name in self.states for name in names):
            found = torch.zeros_like(states)
            found[is_token] = torch.cat([self.states[name] for name in names])
        else:
            return None
        self._stack.layer = self._layers[frozen:]
        return (), {**said, "hidden_states": found}

    def _after(self, _stack: nn.Module, _given: tuple[Any, ...], out: Any) -> Any:
        """Put all layers back; also called where one has raised an error."""
        if not self._inner:
            self._stack.layer = self._layers
        return out

    @torch.no_grad()
    def _filled_in(
        self, frozen: int, names: list[bytes], states: Tensor, mask: Tensor | None, is_token: Tensor
    ) -> Tensor:
        """Return what the frozen layers make of a batch, and keep the texts of which there is nothing yet."""
        found = self._run(self._layers[:frozen], states, mask)
        for name, text, own in zip(names, found, is_token, strict=True):
            size = int(own.sum()) * text.shape[1] * text.element_size()
            if name not in self.states and size <= self._room[0]:
                self.states[name] = text[own]
                self._room[0] -= size
        return found

    def _stays_the_same(self, frozen: int) -> bool:
        """Forget all states where the frozen layers are no longer those that made them; tell whether they can be kept.

        They cannot where the stack does more than run its layers, a norm behind the last one for example.
        """
        weights = [*self._beside, *self._layers[:frozen].parameters()]
        of = tuple((weight.data_ptr(), weight._version) for weight in weights)
        if of != self._of:
            self._room[0] += sum(text.numel() * text.element_size() for text in self.states.values())
            self.states, self._of, self._splits = {}, of, False
            self._splits = self.fills and gives_the_same(self._stack, partial(self._in_two, frozen))
        return self._splits

    def _in_two(self, frozen: int, states: Tensor, mask: Tensor) -> Tensor:
        return self._run(self._layers[frozen:], self._run(self._layers[:frozen], states, mask), mask)

    def _run(self, layers: nn.ModuleList, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return what some of the stack's layers make of these states."""
        self._inner, self._stack.layer = True, layers
        try:
            return run(self._stack, states, mask)
        finally:
            self._inner, self._stack.layer = False, self._layers


def _stands_still(layer: nn.Module) -> bool:
    return not any(weight.requires_grad for weight in layer.parameters()) and not (layer.training and drops(layer))


def _digest(states: Tensor) -> bytes:
    return blake2b(states.detach().contiguous().view(torch.uint8).numpy().data, digest_size=16).digest()
