"""Keys and values of what was read, with room for what will be written: no step copies them."""

from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

_LAYER: Any = DynamicLayer  # untyped at the library's border


def roomy_cache(config: Any, *, tokens: int) -> DynamicCache:
    """Return an empty cache whose layers, as far as they keep all tokens, have room for so many behind the first ones.

    transformers' own layers copy all they hold for each token, into memory that the system has to provide anew.
    """
    cache = DynamicCache(config=config)
    cache.layers = [_Roomy(tokens) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def lay_rows(cache: DynamicCache, places: Tensor) -> None:
    """Make rows of the tokens of a cache's one row; places: (rows, width), where each row's tokens stand in it."""
    for layer in cache.layers:
        assert isinstance(layer, _Roomy)
        layer.lay_rows(places)


def is_roomy(cache: Cache) -> bool:
    """Tell whether all layers of a cache keep all tokens, with room behind them."""
    return all(isinstance(layer, _Roomy) for layer in cache.layers) and bool(cache.layers)


class _Roomy(_LAYER):  # type: ignore[misc]
    """Keys and values that are the first tokens of a larger tensor, (rows, heads, room, width)."""

    def __init__(self, tokens: int) -> None:
        """Make room for so many tokens behind what comes first."""
        super().__init__()
        self._tokens = tokens
        self._whole: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind those that are there; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held, new = self.get_seq_length(), key_states.shape[2]
        if not self._whole or self._whole[0].shape[2] < held + new:
            keys, values = self.keys, self.values
            self._make(key_states, value_states, rows=len(key_states), room=held + new)
            if held:
                self._write(keys, values, 0)
        return self._write(key_states, value_states, held)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row, and make room behind it."""
        if held := self.get_seq_length():
            keys, values = self.keys, self.values
            self._make(keys, values, rows=len(keys) * repeats, room=held)
            self._write(keys.repeat_interleave(repeats, dim=0), values.repeat_interleave(repeats, dim=0), 0)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; where all that move come from behind, each is copied alone."""
        rows = indices.tolist()
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if not self._whole or any(row < len(rows) for _, row in moved):
            super().batch_select_indices(indices)
            self._whole = ()
            return
        held = self.get_seq_length()
        for whole in self._whole:
            for place, row in moved:
                whole[place, :, :held] = whole[row, :, :held]
        self._whole = tuple(whole[: len(rows)] for whole in self._whole)
        self._show(held)

    def lay_rows(self, places: Tensor) -> None:
        """Make rows of the one row's tokens, and room behind them; places: (rows, width), where each one's stand."""
        keys, values = self.keys, self.values
        self._make(keys, values, rows=len(places), room=places.shape[1])
        self._write(keys[0][:, places].transpose(0, 1), values[0][:, places].transpose(0, 1), 0)

    def _make(self, keys: Tensor, values: Tensor, *, rows: int, room: int) -> None:
        """Make tensors like these for other numbers of rows and tokens, and for the tokens that will be written."""
        self._whole = tuple(
            part.new_empty(rows, part.shape[1], room + self._tokens, part.shape[3]) for part in (keys, values)
        )

    def _write(self, keys: Tensor, values: Tensor, held: int) -> tuple[Tensor, Tensor]:
        """Put tokens behind those that are held, and return all."""
        for whole, states in zip(self._whole, (keys, values), strict=True):
            whole[:, :, held : held + states.shape[2]] = states
        return self._show(held + keys.shape[2])

    def _show(self, tokens: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (whole[:, :, :tokens] for whole in self._whole)
        return self.keys, self.values


def order_kept(kept: list[int]) -> list[int]:
    """Return the rows that stay, ascending at first, in an order that moves few: the last ones into the gaps."""
    count = len(kept)
    behind = [row for row in kept if row >= count]
    staying = set(kept)
    return [place if place in staying else behind.pop() for place in range(count)]
