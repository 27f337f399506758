"""MaxSim: how well the tokens of queries find their like in passages, without a table of all tokens against all."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

EMPTY = -1e9  # the score of a passage without a token: below every other, and no infinity
CELLS = 1 << 22  # query tokens times passage tokens that are compared at a time: 16 MiB in fp32


class Packed(NamedTuple):
    """The token vectors of several texts, one text behind the other, without padding."""

    vectors: Tensor  # (tokens of all texts, width)
    lengths: Tensor  # (texts,) tokens of each, on the processor

    @property
    def texts(self) -> list[Tensor]:
        """The vectors of each text apart, (tokens, width)."""
        return list(torch.split(self.vectors, self.lengths.tolist()))


def maxsim(queries: Packed, passages: Packed) -> Tensor:
    """Return (queries, passages) scores in fp32: s(q, d) = Σ_i max_j q_i·d_j, i over q's tokens and j over d's.

    Of unit vectors, a score lies between minus and plus the number of q's tokens (Khattab & Zaharia 2020, arXiv
    2004.12832). A passage without tokens scores `EMPTY`.

    Passages of one length go through one matrix product, a block at a time, so that nothing is padded. Between the
    passes only the place of each maximum is kept, (query tokens, passages): a passage's length less than the table
    of all tokens against all, which autograd would keep. Gradients flow to the place that won; where several are
    equal, to one of them.
    """
    scores: Tensor = _autograd.apply(queries.vectors, passages.vectors, queries.lengths, passages.lengths)
    return scores


class _MaxSim(torch.autograd.Function):
    """The formula, and its gradient: with t the place that won, dq_i = Σ_d g_qd·d_t and dd_t = Σ_i g_qd·q_i."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, passages: Tensor, query_lengths: Tensor, passage_lengths: Tensor) -> Tensor:
        found = torch.full((len(query_lengths), len(passage_lengths)), EMPTY, device=queries.device)
        wanted = any(ctx.needs_input_grad)
        won = torch.zeros(len(queries), len(passage_lengths) if wanted else 0, dtype=torch.int32)
        won = won.to(queries.device)
        owners = _owners(query_lengths).to(queries.device)
        with _in_full(queries):
            for rows, places in _blocks(passage_lengths, queries):
                table = (passages[places.flatten()] @ queries.T).view(*places.shape, len(queries))
                best, at = table.max(dim=1)
                scores = torch.zeros(len(rows), len(query_lengths), device=queries.device)
                found[:, rows] = scores.index_add_(1, owners, best.float()).T
                if wanted:
                    won[:, rows] = places.gather(1, at).T.int()
        ctx.save_for_backward(queries, passages, query_lengths, passage_lengths, won)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        queries, passages, query_lengths, passage_lengths, won = ctx.saved_tensors
        owners = _owners(query_lengths).to(queries.device)
        by_token = gradients[0].to(queries.dtype)[owners]
        to_queries, to_passages = torch.zeros_like(queries), torch.zeros_like(passages)
        with _in_full(queries):
            for rows, places in _blocks(passage_lengths, queries):
                first = places[:, :1].T  # a passage's tokens stand together: those of the block's rows are new places
                step = torch.arange(len(rows), device=queries.device) * places.shape[1]
                weights = torch.zeros(len(queries), places.numel(), dtype=queries.dtype, device=queries.device)
                weights.scatter_(1, won[:, rows] - first + step, by_token[:, rows])  # no two in one place
                tokens = places.flatten()
                to_queries.addmm_(weights, passages[tokens])
                to_passages[tokens] = weights.T @ queries
        return to_queries, to_passages, None, None


_autograd: Any = _MaxSim


def _owners(lengths: Tensor) -> Tensor:
    """Return for each token the text that it stands in."""
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def _blocks(lengths: Tensor, queries: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield passages of one length, and the places of their tokens, (passages, length); `CELLS` at a time."""
    firsts, tokens = lengths.cumsum(0) - lengths, CELLS // max(1, len(queries))
    for length in sorted({*lengths.tolist()} - {0}):
        for rows in torch.split((lengths == length).nonzero()[:, 0], max(1, tokens // length)):
            places = firsts[rows, None] + torch.arange(length)
            yield rows.to(queries.device), places.to(queries.device)


def _in_full(vectors: Tensor) -> torch.autocast:
    """Return a context in which products keep the vectors' own number format."""
    return torch.autocast(vectors.device.type, enabled=False)
