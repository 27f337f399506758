"""Passages that are encoded once: each once, whatever stopped it, and none that is known is taken for wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.models import fixed
from burnish.models.encode import Encoder
from burnish.models.fixed import encode_fixed, fixed_of, keep_fixed
from burnish.prepare.pair_batch import pair_batch
from burnish.prepare.pair_items import PairItem

TEXTS = [tuple(range(5, 5 + length)) for length in (3, 9, 4, 3, 7, 12, 5)]  # the fourth is the first again
UNIQUE = [text for place, text in enumerate(TEXTS) if place != 3]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(str(tiny.tiny_bert(tmp_path / "bert")), dtype=torch.float32)


def texts() -> Iterator[Sequence[int]]:
    return iter(TEXTS)


def test_each_passage_is_encoded_once_and_then_read_from_the_disk(encoder: Encoder, tmp_path: Path) -> None:
    encoder.train()  # a passage that stands still has no dropout
    found, new = encode_fixed(encoder, texts, folder=tmp_path / "kept")
    assert new == len(UNIQUE)
    assert found.rows(TEXTS).tolist() == [0, 1, 2, 0, 3, 4, 5]
    expected = encoder.encode_ids(UNIQUE, progress=lambda *_: None)
    torch.testing.assert_close(found.vectors, expected, rtol=1e-6, atol=1e-6)
    again, new = encode_fixed(encoder, lambda: [*TEXTS, (6, 7)], folder=tmp_path / "kept")
    assert new == 1
    assert torch.equal(again.vectors[:-1], found.vectors)


def test_what_is_killed_between_two_blocks_goes_on_there(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed, "BLOCK", 2)
    whole, _ = encode_fixed(encoder, texts, folder=tmp_path / "whole")

    def killed(count: int, of: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_fixed(encoder, texts, folder=tmp_path / "killed", progress=killed)
    found, new = encode_fixed(encoder, texts, folder=tmp_path / "killed")
    assert new == len(UNIQUE) - 2
    assert torch.equal(found.vectors, whole.vectors)


def test_other_weights_and_other_ways_to_read_have_a_folder_of_their_own(encoder: Encoder, tmp_path: Path) -> None:
    encode_fixed(encoder, texts, folder=tmp_path / "kept")
    with torch.no_grad():
        next(encoder.parameters()).add_(0.1)
    assert encode_fixed(encoder, texts, folder=tmp_path / "kept")[1] == len(UNIQUE)
    encoder.pooling = "cls"
    assert encode_fixed(encoder, texts, folder=tmp_path / "kept")[1] == len(UNIQUE)


def item(name: str, query: Any, right: list[int], wrong: list[int], known: list[int]) -> PairItem:
    sides = [tuple(TEXTS[place] for place in places) for places in (right, wrong, known)]
    return PairItem(name, 1, query, *sides)


def test_a_batch_has_its_places_among_all_passages(encoder: Encoder, tmp_path: Path) -> None:
    found, _ = encode_fixed(encoder, texts, folder=tmp_path / "kept")
    own = pair_batch([item("a", (5,), [6], [2, 1], [4, 5]), item("b", (6,), [5, 1], [], [])])
    assert [(query, tuple(text)) for query, text in own.elsewhere] == [(0, TEXTS[4])]
    batch = found.among(own)
    assert batch.candidates_rc[0].tolist() == [5, 2, 1]
    assert batch.candidates_rc[1, :2].tolist() == [4, 1]
    assert torch.equal(batch.positive_rc, own.positive_rc)
    assert sorted(batch.known.tolist()) == [[0, 3], [0, 4], [0, 5], [1, 1], [1, 4]]


def test_what_is_kept_goes_with_its_model(encoder: Encoder, tmp_path: Path) -> None:
    found, _ = encode_fixed(encoder, texts, folder=tmp_path / "kept")
    before = len(fixed._kept)
    layer = torch.nn.Linear(1, 1)
    keep_fixed(layer, found)
    assert fixed_of(layer) is found
    del layer
    assert len(fixed._kept) <= before
