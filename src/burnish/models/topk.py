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
    k = min(k, len(passages))
    found = [_top(block, passages, k) for block in torch.split(queries, QUERIES)]
    return torch.cat([scores for scores, _ in found]), torch.cat([rows for _, rows in found])


def _top(queries: Tensor, passages: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = torch.full((len(queries), 0), -torch.inf)
    rows = torch.empty((len(queries), 0), dtype=torch.long)
    for first in range(0, len(passages), BLOCK):
        block = passages[first : first + BLOCK]
        scores = torch.cat([best, queries @ block.T], dim=1)
        places = torch.arange(first, first + len(block)).expand(len(queries), -1)
        places = torch.cat([rows, places], dim=1)
        bar = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
        depth = int((scores >= bar).sum(dim=1).max())  # ties at the bar: look at all of them
        scores, chosen = scores.topk(min(depth, scores.shape[1]), dim=1)
        places = places.gather(1, chosen)
        by_row = places.argsort(dim=1, descending=True)
        scores, places = scores.gather(1, by_row), places.gather(1, by_row)
        by_score = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        best, rows = scores.gather(1, by_score), places.gather(1, by_score)
    return best, rows
