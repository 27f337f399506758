from pathlib import Path

import pytest
import torch

from burnish.errors import ModelError
from burnish.models import approximate
from burnish.models.nearest import Exact, Rescored, missed, nearest, sampled
from burnish.models.quantize import Binary, Int8
from burnish.models.store import StoredRows, VectorStore
from burnish.text import text_key

DRAW = torch.Generator().manual_seed(0)
KEYS = [text_key(str(row)) for row in range(600)]
CENTRES = torch.randn(12, 32, generator=DRAW)
VECTORS = torch.nn.functional.normalize(
    CENTRES[torch.arange(600) % 12] + 0.5 * torch.randn(600, 32, generator=DRAW), dim=1
)
QUERIES = torch.nn.functional.normalize(VECTORS[::20] + 0.05 * torch.randn(30, 32, generator=DRAW), dim=1)


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    made = VectorStore(tmp_path / "store", width=32)
    made.add(KEYS, VECTORS, [False] * len(KEYS))
    return made


def rows(store: VectorStore, places: range) -> tuple[StoredRows, list[bytes]]:
    keys = [KEYS[place] for place in places]
    return store.rows(keys), keys


def test_few_vectors_and_many_are_searched_alike(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = rows(store, range(600))
    held = Exact(vectors).search(QUERIES, 7)
    monkeypatch.setattr("burnish.models.nearest.HELD", 0)
    mapped = Exact(vectors).search(QUERIES, 7)
    assert all(torch.equal(one, other) for one, other in zip(held, mapped, strict=True))
    assert torch.equal(held[1], (QUERIES @ VECTORS.T).topk(7).indices)


@pytest.mark.parametrize("coding", ["int8", "binary"])
def test_codes_find_nearly_what_the_exact_search_finds(store: VectorStore, coding: str) -> None:
    vectors, keys = rows(store, range(600))
    found = nearest(vectors, keys, coding=coding, index="exact", times=4, folder=store.folder)
    lost, of = missed(found, vectors, QUERIES)
    assert of == 300
    assert lost <= {"int8": 0, "binary": 45}[coding]
    every = nearest(vectors, keys, coding=coding, index="exact", times=60, folder=store.folder)
    assert missed(every, vectors, QUERIES) == (0, 300)


def test_what_is_missed_is_counted() -> None:
    class Worst:
        def search(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
            scores, places = (queries @ vectors.T).topk(k, largest=False)
            return scores, places

    vectors = torch.eye(8)
    queries = torch.linspace(1, 2, 8)[None]
    assert missed(Worst(), vectors, queries, 3) == (3, 3)
    assert missed(Worst(), vectors, queries, 5) == (3, 5)
    assert missed(Worst(), vectors, torch.ones(1, 8), 3) == (0, 3)  # all score the same: none is missed
    assert missed(Worst(), vectors, queries, 8) == (0, 8)


def test_the_sample_is_spread_over_the_passages(store: VectorStore) -> None:
    vectors, _ = rows(store, range(600))
    assert torch.equal(sampled(vectors)[[0, -1]], VECTORS[[0, -1]])
    assert sampled(vectors).shape == (100, 32)
    assert sampled(store.rows(KEYS[:5])).shape == (5, 32)
    assert sampled(store.rows([])).shape == (0, 32)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("coding", ["fp32", "int8"])
def test_an_index_is_extended_and_pruned(store: VectorStore, kind: str, coding: str) -> None:
    pytest.importorskip("faiss")

    def found(places: range) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        vectors, keys = rows(store, places)
        search = nearest(vectors, keys, coding=coding, index=kind, times=4, folder=store.folder)
        return *search.search(QUERIES, 10), *missed(search, vectors, QUERIES)

    scores, places, lost, of = found(range(400))
    assert lost <= of / 10
    assert torch.allclose(scores, (QUERIES[:, None] * VECTORS[places]).sum(dim=2), atol=1e-6)
    again = found(range(400))
    assert torch.equal(again[1], places)
    [first] = [path.name for path in store.folder.iterdir() if path.is_dir()]
    _, places, lost, of = found(range(100, 600))  # 100 went, 200 came
    assert lost <= of / 10
    assert int(places.max()) < 500
    [second] = [path.name for path in store.folder.iterdir() if path.is_dir()]
    assert second != first
    _, places, lost, of = found(range(599, 110, -1))  # a few went: nothing is written anew, and rows are others
    assert lost <= of / 10
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == [second]
    found(range(100))  # too little of it is left: one of its own
    assert len([path for path in store.folder.iterdir() if path.is_dir()]) == 2


def test_an_index_is_the_same_each_time(store: VectorStore, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors, keys = rows(store, range(600))
    for name in ("one", "two"):
        nearest(vectors, keys, coding="fp32", index="hnsw", times=1, folder=tmp_path / name)
    one, two = (next((tmp_path / name).glob("*/index.faiss")).read_bytes() for name in ("one", "two"))
    assert one == two


def test_too_few_passages_for_the_question_are_marked(store: VectorStore) -> None:
    pytest.importorskip("faiss")
    vectors, keys = rows(store, range(3))
    search = nearest(vectors, keys, coding="fp32", index="hnsw", times=4, folder=store.folder)
    scores, places = search.search(QUERIES[:1], 10)
    assert sorted(places[places >= 0].tolist()) == [0, 1, 2]
    assert torch.isfinite(scores[places >= 0]).all()
    assert search.search(QUERIES, 0)[1].shape == (30, 0)
    none = nearest(*rows(store, range(0)), coding="fp32", index="hnsw", times=4, folder=store.folder)
    assert none.search(QUERIES, 5)[1].shape == (30, 0)


def test_without_faiss_the_error_says_what_to_install(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    vectors, keys = rows(store, range(10))
    with pytest.raises(ModelError, match=r"pip install 'burnish\[faiss\]'.*index: exact"):
        nearest(vectors, keys, coding="fp32", index="hnsw", times=4, folder=store.folder)
    assert not approximate.is_installed()


def test_codes_are_chosen_by_name(store: VectorStore) -> None:
    vectors, keys = rows(store, range(50))
    kinds = {"int8": Int8, "binary": Binary}
    for coding, kind in kinds.items():
        search = nearest(vectors, keys, coding=coding, index="exact", times=4, folder=store.folder)
        assert isinstance(search, Rescored)
        assert isinstance(search.candidates, kind)
