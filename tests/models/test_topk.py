import pytest
import torch
from torch import Tensor

from burnish.models import topk
from burnish.models.topk import top_k


def by_hand(queries: Tensor, passages: Tensor, k: int) -> list[list[tuple[float, int]]]:
    scores = (queries @ passages.T).tolist()
    return [sorted(((score, row) for row, score in enumerate(line)), reverse=True)[:k] for line in scores]


def found(queries: Tensor, passages: Tensor, k: int) -> list[list[tuple[float, int]]]:
    scores, rows = top_k(queries, passages, k)
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
