from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from burnish.models.maxsim import Packed
from burnish.models.token_lists import TokenLists, k_means
from burnish.models.token_store import TokenStore

TOPICS = 40
PASSAGES = 400


def store_of(folder: Path, lengths: Tensor, vectors: Tensor) -> TokenStore:
    folder.mkdir()
    np.save(folder / "vectors.npy", vectors.half().numpy())
    save_file({"lengths": lengths}, folder / "lengths.safetensors")
    return TokenStore(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, TokenLists, Tensor]:
    """Return passages whose tokens lie about some topics, their lists, and the topics."""
    draw = torch.Generator().manual_seed(0)
    folder = tmp_path_factory.mktemp("lists")
    topics = functional.normalize(torch.randn(TOPICS, 16, generator=draw), dim=-1)
    lengths = torch.randint(3, 12, (PASSAGES,), generator=draw)
    drawn = torch.randint(TOPICS, (int(lengths.sum()),), generator=draw)
    noise = torch.randn(len(drawn), 16, generator=draw)
    store = store_of(folder / "store", lengths, functional.normalize(topics[drawn] + 0.1 * noise, dim=-1))
    (folder / "lists").mkdir()
    TokenLists.write(folder / "lists", store)
    return store, TokenLists(folder / "lists"), topics


def test_centroids_are_where_the_vectors_gather(corpus: tuple[TokenStore, TokenLists, Tensor]) -> None:
    store, _, topics = corpus
    vectors = store.tokens(0, 1 << 20)
    centroids = k_means(vectors, TOPICS * 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(TOPICS * 2))
    assert (topics @ centroids.T).amax(dim=1).mean() > 0.95
    one = k_means(vectors, 1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(one[0], functional.normalize(vectors.sum(dim=0), dim=0), atol=1e-5, rtol=0)


def test_the_lists_hold_each_passage_once_under_each_of_its_centroids(
    corpus: tuple[TokenStore, TokenLists, Tensor],
) -> None:
    store, lists, _ = corpus
    nearest = (store.tokens(0, 1 << 20) @ lists.centroids.T).argmax(dim=1)
    owners = torch.arange(len(store)).repeat_interleave(store.lengths)
    expected: dict[int, set[int]] = {}
    for centroid, passage in zip(nearest.tolist(), owners.tolist(), strict=True):
        expected.setdefault(centroid, set()).add(passage)
    for centroid in range(len(lists.centroids)):
        first = int(lists.ends[centroid - 1]) if centroid else 0
        assert lists.members[first : int(lists.ends[centroid])].tolist() == sorted(expected.get(centroid, set()))


def test_candidates_are_ranked_by_the_centroids_that_have_them(corpus: tuple[TokenStore, TokenLists, Tensor]) -> None:
    _, lists, topics = corpus
    query, probes = topics[:4], 3
    near = (query @ lists.centroids.T).topk(probes + 1, dim=1)
    promise: dict[int, float] = {}
    for token in range(4):
        best: dict[int, float] = {}
        for value, centroid in zip(near.values[token, :probes], near.indices[token, :probes].tolist(), strict=True):
            first = int(lists.ends[centroid - 1]) if centroid else 0
            for passage in lists.members[first : int(lists.ends[centroid])].tolist():
                best[passage] = max(best.get(passage, 0.0), float(value - near.values[token, -1]))
        promise = {row: promise.get(row, 0.0) + best.get(row, 0.0) for row in {*promise, *best}}
    found = lists.candidates(query, probes=probes, count=PASSAGES)
    assert {*found.tolist()} == {*promise}
    values = torch.tensor([promise[row] for row in found.tolist()])
    torch.testing.assert_close(values, values.sort(descending=True).values, atol=1e-5, rtol=0)
    assert lists.candidates(query, probes=probes, count=5).tolist() == found[:5].tolist()


def test_of_the_first_ten_by_exact_search_nearly_all_are_candidates(
    corpus: tuple[TokenStore, TokenLists, Tensor],
) -> None:
    store, lists, topics = corpus
    draw = torch.Generator().manual_seed(1)
    drawn = torch.randint(TOPICS, (30, 6), generator=draw)
    queries = functional.normalize(topics[drawn] + 0.1 * torch.randn(30, 6, 16, generator=draw), dim=-1)
    best = store.scores(Packed(queries.flatten(0, 1), torch.full((30,), 6))).topk(10, dim=1).indices
    found = [lists.candidates(query, probes=32, count=60) for query in queries]
    kept = [torch.isin(right, own).float().mean() for right, own in zip(best, found, strict=True)]
    assert torch.stack(kept).mean() > 0.9


def test_more_probes_than_centroids_look_at_every_list(tmp_path: Path) -> None:
    vectors = functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    store = store_of(tmp_path / "store", torch.tensor([2, 3, 1]), vectors)
    TokenLists.write(tmp_path, store)
    found = TokenLists(tmp_path).candidates(vectors[:2], probes=99, count=10)
    assert sorted(found.tolist()) == [0, 1, 2]
