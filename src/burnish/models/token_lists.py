"""Which passages hold tokens near a query's: centroids, and the passages of each."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from burnish.models.token_store import BLOCK, TokenStore

SAMPLED = 8  # tokens for each centroid that k-means sees at most
ROUNDS = 4
_FILE = "lists.safetensors"


class TokenLists:
    """Token vectors by their nearest centroid: candidates for an exact comparison, found without any of the vectors.

    After PLAID (Santhanam et al. 2022, arXiv 2205.09707), 16·√tokens centroids, and after XTR (Lee et al. 2023, arXiv
    2304.01982), which counts for a token that was not met the least of those that were.
    """

    def __init__(self, folder: Path) -> None:
        """Open what `write` has written."""
        found = load_file(folder / _FILE)
        self.centroids, self.ends, self.members = found["centroids"], found["ends"], found["members"]

    @classmethod
    def write(cls, folder: Path, store: TokenStore, *, seed: int = 0) -> None:
        """Group the tokens of a store, and write the lists into a folder that exists."""
        tokens = int(store.lengths.sum())
        count = max(1, min(tokens, 2 ** round(math.log2(16 * math.sqrt(max(1, tokens))))))
        draw = torch.Generator().manual_seed(seed)
        sample = torch.randperm(tokens, generator=draw)[: SAMPLED * count].sort().values
        centroids = k_means(_at(store, sample), count, draw)
        owners = torch.arange(len(store)).repeat_interleave(store.lengths)
        pairs = []
        for first in range(0, tokens, BLOCK):
            nearest = _nearest(store.tokens(first, first + BLOCK), centroids)
            pairs.append((nearest * len(store) + owners[first : first + BLOCK]).unique())  # type: ignore[no-untyped-call]
        found = torch.cat(pairs).unique() if pairs else torch.zeros(0, dtype=torch.long)  # type: ignore[no-untyped-call]
        ends = torch.bincount(found // max(1, len(store)), minlength=len(centroids)).cumsum(0)
        members = (found % max(1, len(store))).int()
        save_file({"centroids": centroids, "ends": ends, "members": members}, folder / _FILE)

    def candidates(self, query: Tensor, *, probes: int, count: int) -> Tensor:
        """Return up to `count` passages for a query's (tokens, width) vectors, the most promising first.

        A passage is promising by the sum, over the query's tokens, of the best centroid that has it, above the best
        one that was not looked at; each token looks at its `probes` nearest centroids.
        """
        seen = min(probes + 1, len(self.centroids))
        near = (query @ self.centroids.T).topk(seen, dim=1)
        looked = near.indices[:, :probes].flatten()
        gains = (near.values[:, :probes] - near.values[:, -1:]).flatten()
        starts = torch.where(looked > 0, self.ends[looked - 1], 0)
        sizes = self.ends[looked] - starts
        inside = torch.arange(int(sizes.sum())) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        rows = self.members[starts.repeat_interleave(sizes) + inside].long()
        most = int(self.members.max()) + 1 if len(self.members) else 1
        token = torch.arange(len(query)).repeat_interleave(near.indices[:, :probes].shape[1]).repeat_interleave(sizes)
        met, place = torch.unique(token * most + rows, return_inverse=True)
        best = torch.zeros(len(met)).scatter_reduce_(0, place, gains.repeat_interleave(sizes), "amax")
        passages, place = torch.unique(met % most, return_inverse=True)
        promise = torch.zeros(len(passages)).index_add_(0, place, best)
        first: Tensor = passages[promise.argsort(descending=True, stable=True)[:count]]
        return first


def k_means(vectors: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Return (count, width) unit vectors about which the unit vectors (rows, width) gather, by cosine.

    Lloyd's rounds from rows drawn at random; a centroid that loses all its rows stays where it is.
    """
    centroids = vectors[torch.randperm(len(vectors), generator=draw)[:count]].clone()
    for _ in range(ROUNDS):
        sums = torch.zeros_like(centroids).index_add_(0, _nearest(vectors, centroids), vectors)
        moved = sums.norm(dim=1) > 0
        centroids[moved] = functional.normalize(sums[moved], dim=-1)
    return centroids


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Return the nearest centroid of each vector."""
    step = max(1, (1 << 23) // len(centroids))
    return torch.cat([(part @ centroids.T).argmax(dim=1) for part in torch.split(vectors, step)])


def _at(store: TokenStore, places: Tensor) -> Tensor:
    """Return the token vectors at rising places, read from disk block by block."""
    parts = []
    for first in range(0, int(store.lengths.sum()), BLOCK):
        here = places[(places >= first) & (places < first + BLOCK)] - first
        parts.append(store.tokens(first, first + BLOCK)[here])
    return torch.cat(parts) if parts else torch.zeros(0, 1)
