"""A cache with room holds what transformers' own would, through every change of its rows."""

import random

import pytest
import torch
from transformers import DynamicCache, LlamaConfig

from burnish.models.room import order_kept, roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=1, num_attention_heads=2, hidden_size=8)


def states(rows: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 4), torch.randn(rows, 2, tokens, 4)


@pytest.mark.parametrize("tokens", [1, 4, 50])
def test_a_cache_with_room_holds_what_one_without_does(tokens: int):
    torch.manual_seed(0)
    caches = [DynamicCache(config=CONFIG), roomy_cache(CONFIG, tokens=tokens)]

    def same() -> None:
        for part in ("keys", "values"):
            plain, ours = (getattr(cache.layers[0], part) for cache in caches)
            assert torch.equal(plain, ours)

    def update(rows: int, tokens: int) -> None:
        new = states(rows, tokens)
        found = [cache.update(*new, 0) for cache in caches]
        assert all(torch.equal(plain, ours) for plain, ours in zip(*found, strict=True))
        same()

    update(1, 5)
    for cache in caches:
        cache.batch_repeat_interleave(2)
    same()
    update(2, 9)
    for cache in caches:
        cache.batch_repeat_interleave(3)
    update(6, 1)
    for rows in ([0, 5, 2, 3], [3, 0, 1], [0, 1], [1]):  # the second in an order that overwrites what is still to move
        for cache in caches:
            cache.batch_select_indices(torch.tensor(rows))
        same()
        update(len(rows), 2)
    assert caches[1].get_seq_length() == caches[0].get_seq_length()


def test_tokens_are_written_in_place():
    cache = roomy_cache(CONFIG, tokens=3)
    cache.update(*states(2, 5), 0)
    place = cache.layers[0].keys.data_ptr()
    for _ in range(3):
        cache.update(*states(2, 1), 0)
    assert cache.layers[0].keys.data_ptr() == place


def test_rows_that_stay_move_only_into_gaps():
    draw = random.Random(0)
    for _ in range(200):
        rows = draw.randint(1, 12)
        kept = sorted(draw.sample(range(rows), draw.randint(0, rows)))
        order = order_kept(kept)
        assert sorted(order) == kept
        assert all(row in (place, *range(len(kept), rows)) for place, row in enumerate(order))
