from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from burnish.models import topk
from burnish.models.topk import sizes_within, top_k
from burnish.models.vectors import VectorFile


def by_hand(queries: Tensor, passages: Tensor, k: int) -> list[list[tuple[float, int]]]:
    scores = (queries @ passages.T).tolist()
    return [sorted(((score, row) for row, score in enumerate(line)), reverse=True)[:k] for line in scores]


def found(queries: Tensor, passages: Tensor, k: int, **options: int) -> list[list[tuple[float, int]]]:
    scores, rows = top_k(queries, passages, k, **options)
    return [list(zip(*line, strict=True)) for line in zip(scores.tolist(), rows.tolist(), strict=True)]


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_blocks_and_ties_do_not_change_the_ranking(monkeypatch: pytest.MonkeyPatch, block: int, k: int) -> None:
    monkeypatch.setattr(topk, "BLOCK", block)
    monkeypatch.setattr(topk, "QUERIES", 4)
    made = torch.Generator().manual_seed(0)
    queries = torch.randint(-1, 2, (9, 3), generator=made).float()  # whole numbers: exact, and many ties
    passages = torch.randint(-1, 2, (40, 3), generator=made).float()
    assert found(queries, passages, k) == by_hand(queries, passages, k)


def test_all_equal_scores_are_ranked_by_the_later_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "BLOCK", 4)
    scores, rows = top_k(torch.ones(1, 2), torch.ones(10, 2), 3)
    assert rows.tolist() == [[9, 8, 7]]
    assert scores.tolist() == [[2.0, 2.0, 2.0]]


def test_fewer_passages_than_asked_for_are_all_returned() -> None:
    scores, rows = top_k(torch.ones(2, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), 5)
    assert rows.tolist() == [[1, 0], [1, 0]]
    assert scores.shape == (2, 2)


def whole_numbers(rows: int, width: int, *, seed: int) -> Tensor:
    return torch.randint(-3, 4, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


def stored(folder: Path, vectors: Tensor) -> VectorFile:
    save_file({"vectors": vectors}, folder / "vectors.safetensors")
    return VectorFile.open(folder / "vectors.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_of_vectors_is_searched_like_the_same_vectors_in_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    made = torch.Generator().manual_seed(0)
    queries, passages = torch.randn(5, 8, generator=made), torch.randn(50, 8, generator=made).to(dtype)
    scores, rows = top_k(queries, stored(tmp_path, passages), 7, budget=4000)
    wanted = (queries @ passages.float().T).topk(7)
    assert torch.equal(rows, wanted.indices)
    assert torch.allclose(scores, wanted.values, atol=1e-6)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("budget", [400, 1000, 5000, 10**6])
def test_a_budget_changes_the_blocks_and_not_the_result(budget: int) -> None:
    queries, passages = whole_numbers(9, 4, seed=1), whole_numbers(70, 4, seed=2)
    sizes = sizes_within(budget, 4)
    assert sizes.queries * sizes.passages * 32 <= budget
    assert found(queries, passages, 6, budget=budget) == by_hand(queries, passages, 6)


def test_a_budget_that_holds_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="100 bytes are too few to search vectors of 384 numbers"):
        top_k(torch.ones(1, 384), torch.ones(1, 384), 1, budget=100)


class KilledError(Exception):
    """Stands for a kill in the middle of a search."""


class Stopping:
    """Vectors whose reading ends a search after so many blocks."""

    def __init__(self, vectors: Tensor, blocks: int) -> None:
        self.vectors, self.left, self.read = vectors, blocks, 0
        self.shape, self.dtype = vectors.shape, vectors.dtype

    def __getitem__(self, rows: slice) -> Tensor:
        if not self.left:
            raise KilledError
        self.left, self.read = self.left - 1, self.read + 1
        return self.vectors[rows]


def stopped(queries: Tensor, passages: Tensor, k: int, state: Path, *, blocks: int) -> None:
    with pytest.raises(KilledError):
        top_k(queries, Stopping(passages, blocks), k, state=state, every=0)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topk, "BLOCK", 16)
    monkeypatch.setattr(topk, "QUERIES", 4)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("blocks", [1, 2, 6])
@pytest.mark.parametrize("k", [3, 40])
def test_a_killed_search_goes_on_and_ends_bit_for_bit_the_same(tmp_path: Path, blocks: int, k: int) -> None:
    made = torch.Generator().manual_seed(3)
    queries, passages = torch.randn(10, 8, generator=made), torch.randn(120, 8, generator=made)
    whole = top_k(queries, passages, k)
    state = tmp_path / "state.safetensors"
    stopped(queries, passages, k, state, blocks=blocks)
    assert state.is_file()
    rest = Stopping(passages, 99)
    seen: list[int] = []
    again = top_k(queries, rest, k, state=state, progress=lambda done, _: seen.append(done))
    assert all(torch.equal(one, other) for one, other in zip(again, whole, strict=True))
    assert seen[0] == 16 * blocks  # nothing is scored twice, though what was seen is read again
    assert [*tmp_path.iterdir()] == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("change", ["queries", "passages", "k", "a torn file"])
def test_the_state_of_another_search_is_not_used(tmp_path: Path, change: str) -> None:
    queries, passages, k = whole_numbers(6, 4, seed=4), whole_numbers(60, 4, seed=5), 5
    state = tmp_path / "state.safetensors"
    stopped(queries, passages, k, state, blocks=2)
    if change == "queries":
        queries = whole_numbers(6, 4, seed=6)
    elif change == "passages":
        passages = passages.clone()
        passages[3, 1] += 9
    elif change == "k":
        k = 6
    else:
        state.write_bytes(state.read_bytes()[:40])
    found_again = top_k(queries, passages, k, state=state)
    assert all(torch.equal(one, other) for one, other in zip(found_again, top_k(queries, passages, k), strict=True))


def test_no_query_no_passage_and_no_place_are_empty_results(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    assert top_k(torch.ones(0, 3), torch.ones(4, 3), 2, state=state, every=0)[0].shape == (0, 2)
    assert top_k(torch.ones(2, 3), torch.ones(0, 3), 2, state=state)[1].shape == (2, 0)
    assert top_k(torch.ones(2, 3), torch.ones(4, 3), 0)[1].shape == (2, 0)
