"""Exact nearest neighbours, block by block: memory does not grow with the corpus."""

import torch
from torch import Tensor

BLOCK = 16384  # passages scored at a time
QUERIES = 1024  # queries scored at a time


def top_k(queries: Tensor, passages: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest dot products of each query and the rows of their passages, largest first.

    queries: (queries, width); passages: (passages, width). Of equal scores the later row comes first; where fewer than
    k passages exist, all are returned.
    """
    blocks = [queries[first : first + QUERIES] for first in range(0, max(1, len(queries)), QUERIES)]
    found = [_top(block, passages, k) for block in blocks]
    return torch.cat([scores for scores, _ in found]), torch.cat([rows for _, rows in found])


def _top(queries: Tensor, passages: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Run through the passages and keep the best seen so far."""
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for first in range(0, len(passages), BLOCK):
        scores, places = _largest(queries @ passages[first : first + BLOCK].T, k)
        best, rows = torch.cat([best, scores], dim=1), torch.cat([rows, places + first], dim=1)
        by_row = rows.argsort(dim=1, descending=True)
        best, rows = best.gather(1, by_row), rows.gather(1, by_row)
        by_score = best.argsort(dim=1, descending=True, stable=True)[:, :k]
        best, rows = best.gather(1, by_score), rows.gather(1, by_score)
    return best, rows


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return at least the k largest of each row and their places, with all that equal the smallest of them."""
    k = min(k, scores.shape[1])
    values, places = scores.topk(k, dim=1)
    bar = values[:, -1:]
    left_out = int(((scores == bar).sum(dim=1) - (values == bar).sum(dim=1)).max())
    return scores.topk(k + left_out, dim=1) if left_out else (values, places)
