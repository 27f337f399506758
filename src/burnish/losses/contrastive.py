"""InfoNCE: the right passage among the batch's passages and the mined hard negatives."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from burnish.errors import RecipeError
from burnish.losses import Loss

Direction = Literal["query_to_passage", "passage_to_query", "query_to_query", "passage_to_passage"]

TILE = (1024, 4096)  # lines and candidates whose logits are held at a time: 16 MiB
_SCALE = "log_scale"  # of a parameter: 1/τ, as its logarithm
_WITH_THE_RIGHT = ("query_to_passage", "passage_to_query")  # directions among whose candidates the right one stands


class Contrastive(Loss):
    """InfoNCE with in-batch and hard negatives, several positives allowed, false negatives masked.

    For each positive p of query q: -log( e^{s_qp/τ} / (e^{s_qp/τ} + Σ_n e^{s_qn/τ}) ), n over the passages of the
    batch that are not known to answer q; averaged over q's positives, summed over queries.
    Source: van den Oord et al. 2018 (arXiv 1807.03748); in-batch negatives as in DPR (Karpukhin et al. 2020,
    arXiv 2004.04906). Gradient for one positive: (softmax(s/τ) - onehot(p)) / τ.
    directions: who else is pushed apart. `passage_to_query`: p from the queries that it is no positive of;
    `query_to_query`: q from these queries; `passage_to_passage`: p from the passages that are neither positives nor
    negatives of q. All four are the loss of GTE (Li et al. 2023, arXiv 2308.03281).
    softmax: `joint`, one denominator for all directions, in which each of the first two counts the right pair; or
    `apart`, a loss for each of the first two directions, and their mean (CLIP, Radford et al. 2021, arXiv 2103.00020).
    false_negatives: m; what scores more than m above the right pair is taken for an unlabelled positive and masked (no
    gradient through that), in every direction.
    Needs: pairs. Relates to: `cross_entropy`, the same with fixed classes; `triplet`, which sees a row's own
    negatives alone.
    Example: scores (8, 16) of 8 queries against 8 positives and 8 negatives → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0)
    learn: Literal["nothing", "temperature"] = "nothing"
    false_negatives: float | None = None
    directions: tuple[Direction, ...] = ("query_to_passage",)
    softmax: Literal["joint", "apart"] = "joint"

    @model_validator(mode="after")
    def _check_directions(self) -> Self:
        """Check that the directions make a loss.

        Raises:
            RecipeError: none holds the right pair, one stands twice, or one without the right pair stands apart.
        """
        if len({*self.directions}) < len(self.directions):
            raise RecipeError(f"a direction stands twice in {', '.join(self.directions)}")
        if "query_to_passage" not in self.directions:
            raise RecipeError("directions need query_to_passage, in which the right pair stands")
        alone = [direction for direction in self.directions if direction not in _WITH_THE_RIGHT]
        if self.softmax == "apart" and alone:
            raise RecipeError(f"{alone[0]} holds no right pair to stand apart with; use `softmax: joint`")
        return self

    def __call__(
        self,
        scores_qd: Tensor,
        positive_qd: Tensor,
        *,
        known_qd: Tensor | None = None,
        scale: Tensor | float | None = None,
    ) -> Tensor:
        """Return the sum over queries, from scores of any kind.

        scores_qd: (queries, passages), cosines, dot products or others. positive_qd: the same shape, true where the
        passage is a positive of the query; each row holds at least one. known_qd: true where the passage is not to
        count as wrong, positives included; None: the positives. scale: 1/τ, where it is learned.

        Raises:
            RecipeError: a direction compares queries with queries, or passages with passages.
        """
        known_qd = positive_qd if known_qd is None else known_qd
        scale = 1 / self.temperature if scale is None else scale
        scores_qd = scores_qd.float()
        rows_p, columns_p = positive_qd.nonzero(as_tuple=True)  # one line for each positive
        right_p = scores_qd[rows_p, columns_p]
        pools = []
        for direction in self.directions:
            if direction == "query_to_passage":
                scores_pc, hidden_pc = scores_qd[rows_p], known_qd[rows_p]
            elif direction == "passage_to_query":
                scores_pc, hidden_pc = scores_qd.T[columns_p], known_qd.T[columns_p]
            else:
                raise RecipeError(f"loss contrastive: {direction} needs one vector a text; here are scores alone")
            if self.false_negatives is not None:
                hidden_pc = hidden_pc | (scores_pc.detach() > right_p.detach()[:, None] + self.false_negatives)
            wrong_pc = (scores_pc * scale).masked_fill(hidden_pc, -torch.inf)
            pools.append(torch.logsumexp(torch.cat([(right_p * scale)[:, None], wrong_pc], dim=1), dim=1))
        return self._sum(right_p * scale, pools, rows_p)

    def of_vectors(
        self,
        queries: Tensor,
        passages: Tensor,
        positives: Tensor,
        *,
        known: Tensor | None = None,
        negatives: Tensor | None = None,
        scale: Tensor | float | None = None,
    ) -> Tensor:
        """Return the sum over queries, from vectors; the logits of queries and passages are never held whole.

        queries: (queries, width); passages: (passages, width); their dot products are the scores. positives, known,
        negatives: (any, 2), a query's row and a passage's row each: the pairs that are right, all that are not to
        count as wrong (None: the right ones), and the queries' own hard negatives, which only `passage_to_passage`
        must know. scale: 1/τ, where it is learned.
        """
        known = positives if known is None else known
        queries, passages = queries.float(), passages.float()
        scale = torch.as_tensor(1 / self.temperature if scale is None else scale, device=queries.device).float()
        rows_p, columns_p = positives.T.contiguous()  # one line for each positive
        left, right = queries[rows_p], passages[columns_p]
        right_p = (left * right).sum(dim=1)
        bar_p = None if self.false_negatives is None else right_p.detach() + self.false_negatives
        pools = []
        for direction in self.directions:
            anchors = left if direction.startswith("query") else right
            candidates = passages if direction.endswith("passage") else queries
            if direction == "query_to_passage":
                hidden = joined(rows_p, known)
            elif direction == "passage_to_passage":
                hidden = joined(rows_p, known if negatives is None else torch.cat([known, negatives]))
            else:  # queries that the passage answers, the line's own among them
                hidden = joined(columns_p, known.flip(1))
            operation: Any = _TiledLogSumExp
            pool = operation.apply(anchors, candidates, scale, hidden, bar_p)
            pools.append(torch.logaddexp(right_p * scale, pool) if direction in _WITH_THE_RIGHT else pool)
        return self._sum(right_p * scale, pools, rows_p)

    def _sum(self, right_p: Tensor, pools: Sequence[Tensor], rows_p: Tensor) -> Tensor:
        """Put the directions together. right_p: logits of the right pairs; pools: log Σ e^logit of each direction."""
        stacked = torch.stack([*pools])
        whole_p = stacked.logsumexp(dim=0) if self.softmax == "joint" else stacked.mean(dim=0)
        return ((whole_p - right_p) / rows_p.bincount()[rows_p]).sum()


def learn_scale(module: nn.Module, temperature: float) -> tuple[str, ...]:
    """Give a module 1/τ as a parameter that begins at this temperature; return the names of what is new."""
    module.register_parameter(_SCALE, nn.Parameter(torch.tensor(1 / temperature).log()))
    return (_SCALE,)


def is_scale_alone(fresh: Sequence[str]) -> bool:
    """Tell whether nothing is new in a model but a temperature, which changes no ranking."""
    return {*fresh} <= {_SCALE}


def learned_scale(module: nn.Module) -> Tensor | None:
    """Return 1/τ where it is a parameter of the module; a method may have wrapped it."""
    named = module.named_parameters()
    return next((weight.float().exp() for name, weight in named if name.split(".")[-1] == _SCALE), None)


class _TiledLogSumExp(torch.autograd.Function):
    """log Σ_c e^{scale · a·c} of each line over its visible candidates, tile by tile; -∞ where there is none.

    Gradient: with w_lc = g_l · e^{scale · a_l·c - lse_l}, a gets scale · w·C, C gets scale · wᵀ·A, and scale gets
    Σ w_lc · a_l·c. Tiles are computed again for it, so that memory grows with the texts and not with their pairs.
    """

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, scale: Tensor, hidden: Tensor, bars: Tensor | None
    ) -> Tensor:
        found = anchors.new_full((len(anchors),), -torch.inf)
        for lines, _, logits in _tiles(anchors, candidates, scale, hidden, bars):
            found[lines] = torch.logaddexp(found[lines], logits.logsumexp(dim=1))
        ctx.save_for_backward(anchors, candidates, scale, hidden, bars, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        anchors, candidates, scale, hidden, bars, found = ctx.saved_tensors
        found = found.masked_fill(found == -torch.inf, 0)  # such a line's logits are all -∞, and weigh nothing
        to_anchors = torch.zeros_like(anchors)
        to_candidates = torch.zeros_like(candidates) if ctx.needs_input_grad[1] else None
        for lines, columns, logits in _tiles(anchors, candidates, scale, hidden, bars):
            weights = logits.sub_(found[lines, None]).exp_().mul_(gradient[lines, None])
            to_anchors[lines].addmm_(weights, candidates[columns])
            if to_candidates is not None:
                to_candidates[columns].addmm_(weights.T, anchors[lines])
        to_scale = (anchors * to_anchors).sum() if ctx.needs_input_grad[2] else None
        to_candidates = None if to_candidates is None else to_candidates.mul_(scale)
        return to_anchors.mul_(scale), to_candidates, to_scale, None, None


def _tiles(
    anchors: Tensor, candidates: Tensor, scale: Tensor, hidden: Tensor, bars: Tensor | None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield lines, candidates and their logits, -∞ where hidden. hidden: (any, 2), sorted by line."""
    edges = torch.arange(0, len(anchors) + TILE[0], TILE[0], device=hidden.device)
    cuts = torch.searchsorted(hidden[:, 0].contiguous(), edges).tolist()
    for number, first in enumerate(range(0, len(anchors), TILE[0])):
        lines = slice(first, first + TILE[0])
        here = hidden[cuts[number] : cuts[number + 1]]
        for left in range(0, len(candidates), TILE[1]):
            columns = slice(left, left + TILE[1])
            scores = anchors[lines] @ candidates[columns].T
            inside = here[(here[:, 1] >= left) & (here[:, 1] < left + TILE[1])]
            above = None if bars is None else scores > bars[lines, None]
            logits = scores.mul_(scale)
            if above is not None:
                logits.masked_fill_(above, -torch.inf)
            logits[inside[:, 0] - first, inside[:, 1] - left] = -torch.inf
            yield lines, columns, logits


def joined(keys: Tensor, pairs: Tensor) -> Tensor:
    """Return (line, value) for each pair (key, value) whose key is the line's, sorted by line."""
    pairs = pairs[pairs[:, 0].argsort(stable=True)]
    there = pairs[:, 0].contiguous()
    first = torch.searchsorted(there, keys)
    many = torch.searchsorted(there, keys, right=True) - first
    lines = torch.arange(len(keys), device=keys.device).repeat_interleave(many)
    within = torch.arange(len(lines), device=keys.device) - (many.cumsum(0) - many).repeat_interleave(many)
    return torch.stack([lines, pairs[first.repeat_interleave(many) + within, 1]], dim=1)
