from pathlib import Path

import pytest
import torch

from burnish.errors import DataError
from burnish.models.store import VectorStore
from burnish.text import KEY, text_key

TEXTS = ["red", "green", "blue", "half \udce9", ""]
KEYS = [text_key(text) for text in TEXTS]
VECTORS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def test_a_store_gives_the_vectors_of_texts_in_any_order_from_any_file(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "new", width=6)
    store.add(KEYS[:2], VECTORS[:2], [False, True])
    store.add(KEYS[2:], VECTORS[2:], [True, False, False])
    for opened in (store, VectorStore(tmp_path / "new", width=6)):
        order = [4, 0, 3, 1, 2]
        rows = opened.rows([KEYS[place] for place in order])
        assert rows.shape == (5, 6)
        assert rows.dtype == torch.float32
        for piece in (slice(None), slice(1, 4), slice(3, 99), slice(2, 2)):
            assert torch.equal(rows[piece], VECTORS[order][piece])
        wanted = torch.tensor([[0, 4], [2, 2], [3, 1]])
        assert torch.equal(rows.at(wanted), VECTORS[order][wanted])
        assert (opened.cut(KEYS), opened.cut(KEYS[1:2]), opened.cut(KEYS[3:])) == (2, 1, 0)
        assert KEYS[3] in opened
        assert text_key("yellow") not in opened


def test_of_a_text_that_two_processes_encoded_the_older_vector_counts(tmp_path: Path) -> None:
    one, other = VectorStore(tmp_path, width=6), VectorStore(tmp_path, width=6)
    one.add(KEYS[:3], VECTORS[:3], [False] * 3)
    other.add(KEYS[2:], -VECTORS[2:], [False] * 3)
    opened = VectorStore(tmp_path, width=6)
    assert torch.equal(opened.rows(KEYS)[:], torch.cat([VECTORS[:3], -VECTORS[3:]]))
    assert len([*tmp_path.iterdir()]) == 2


def test_no_rows_of_an_empty_store_are_a_matrix(tmp_path: Path) -> None:
    rows = VectorStore(tmp_path / "none", width=6).rows([])
    assert rows.shape == (0, 6)
    assert rows[:].shape == (0, 6)


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    VectorStore(tmp_path, width=6).add(KEYS, VECTORS, [False] * 5)
    with pytest.raises(DataError, match=r"vectors of 6 numbers stand here, and this model's have 8"):
        VectorStore(tmp_path, width=8)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    VectorStore(tmp_path, width=6).add(KEYS, VECTORS, [False] * 5)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="this file is damaged"):
        VectorStore(tmp_path, width=6)


def test_keys_name_texts() -> None:
    assert len({*KEYS}) == len(KEYS)
    assert all(len(key) == KEY for key in KEYS)
