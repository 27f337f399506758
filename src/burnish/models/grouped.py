"""Attention in bf16 on a processor, where torch's own takes up to twice as long: most of it in the gradient.

The queries of all heads that share a key stand in one product, so that no key is copied; scores and their gradient are
fp32, as in torch's, and what meets the values is rounded to bf16. Of short texts the shares are kept for the gradient.
Of longer ones they are computed again, some queries at a time, and keys that none of these sees are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

AT_ONCE = 2**18  # shares: a MiB of them stays in a processor's cache; a quarter and four times as many take longer
KEPT = 2**16  # queries × keys of a head up to which shares are kept: 256 tokens of a text
LIMIT = 2**19  # of a head: 724 tokens; longer texts gain nothing
QUERIES = 64  # of a head, at a time: of 48 to 128 the fastest for texts of 340 to 700 tokens


def suits(query: Tensor, key: Tensor, settings: dict[str, Any]) -> bool:
    """Tell whether `attend` is the faster way, and gives what is asked for.

    query: (pieces, heads, tokens, width). key: (pieces, key heads, seen tokens, width). settings: what the network's
    layer says beside them.
    """
    fits = query.shape[2] * key.shape[2] <= LIMIT
    return fits and query.device.type == "cpu" and query.dtype == torch.bfloat16 and not settings.get("dropout")


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float | None) -> Tensor:
    """Return (pieces, tokens, heads, width): each query's mean of the values that it sees, by softmax of the scores.

    query, key: as in `suits`; value: as key. seen: (1, 1, tokens, seen tokens), true where a key is seen; None: as many
    keys as queries, each sees those up to its own. scale: of the scores; None: one by the root of the width.
    """
    function: Any = _Kept if query.shape[2] * key.shape[2] <= KEPT else _InBlocks
    found: Tensor = function.apply(query, key, value, seen, query.shape[-1] ** -0.5 if scale is None else scale)
    return found.transpose(1, 2)


class _Kept(Function):
    """Within: (pieces · key heads, the queries of all heads that share a key, or keys, width); some of these at a time.

    What a few have in between stays in the processor's cache, and in one place of memory for all.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float) -> Tensor:
        pieces, _, tokens, width = query.shape
        owners = pieces * key.shape[1]
        queries = query.reshape(owners, -1, width)
        keys, values = (part.reshape(owners, -1, width) for part in (key, value))
        seen = torch.ones(tokens, tokens, dtype=torch.bool).tril() if seen is None else seen
        hidden = None if seen.all() else ~seen
        size = (owners, queries.shape[1], keys.shape[1])
        shares = query.new_empty(size) if any(ctx.needs_input_grad) else None
        out = torch.empty_like(queries)
        for some, scores, exact in _few(size, torch.float32):
            torch.bmm(queries[some].float() * scale, keys[some].float().transpose(1, 2), out=scores)
            if hidden is not None:
                scores.view(len(scores), -1, tokens, keys.shape[1]).masked_fill_(hidden, float("-inf"))
            share = torch.softmax(scores, dim=-1, out=exact).to(query.dtype)
            torch.bmm(share, values[some], out=out[some])
            if shares is not None:
                shares[some] = share
        ctx.save_for_backward(queries, keys, values, shares, out)
        ctx.scale, ctx.shapes = scale, (query.shape, key.shape)
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, shares, out = ctx.saved_tensors
        of_query, of_key = ctx.shapes
        slopes = gradients[0].reshape(out.shape)
        to_query, to_key, to_value = (torch.empty_like(part) for part in (queries, keys, values))
        for some, to_scores, rounded in _few(shares.shape, shares.dtype):
            share, slope = shares[some], slopes[some]
            torch.bmm(share.transpose(1, 2), slope, out=to_value[some])
            exact = slope.float()
            mean = (exact * out[some]).sum(dim=-1, keepdim=True)
            torch.bmm(exact, values[some].float().transpose(1, 2), out=to_scores)
            rounded.copy_(to_scores.sub_(mean).mul_(share).mul_(ctx.scale))
            torch.bmm(rounded, keys[some], out=to_query[some])
            torch.bmm(rounded.transpose(1, 2), queries[some], out=to_key[some])
        return to_query.view(of_query), to_key.view(of_key), to_value.view(of_key), None, None


def _few(shape: Sequence[int], dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield which shares of (all, queries, keys) are computed together, and places for them in fp32 and in `dtype`."""
    number, *size = shape
    together = max(1, min(number, AT_ONCE // max(1, size[0] * size[1])))
    exact, other = (torch.empty(together, *size, dtype=each) for each in (torch.float32, dtype))
    for first in range(0, number, together):
        last = min(number, first + together)
        yield slice(first, last), exact[: last - first], other[: last - first]


class _Block(NamedTuple):
    """Queries `first` to `last` of a head, which see keys before `upto` only, and before `since` all of them.

    hidden: (queries, keys from `since` to `upto`).
    """

    first: int
    last: int
    since: int
    upto: int
    hidden: Tensor


def _blocks(tokens: int, seen: Tensor | None) -> Iterator[_Block]:
    for first in range(0, tokens, QUERIES):
        last = min(tokens, first + QUERIES)
        if seen is None:
            yield _Block(first, last, first, last, torch.ones(last - first, last - first, dtype=torch.bool).triu(1))
        else:
            own = seen[0, 0, first:last]
            upto = int(own.any(dim=0).nonzero().max()) + 1
            since = int(own[:, :upto].all(dim=0).logical_not().nonzero().min()) if not own[:, :upto].all() else upto
            yield _Block(first, last, since, upto, ~own[:, since:upto])


class _InBlocks(Function):
    """Within: (pieces · key heads, heads that share a key, queries, width), and keys as above."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float) -> Tensor:
        _, _, tokens, width = query.shape
        owners = key.shape[0] * key.shape[1]
        queries = query.reshape(owners, -1, tokens, width)
        keys, values = (part.reshape(owners, -1, width) for part in (key, value))
        exact = keys.float().transpose(1, 2)
        out = torch.empty_like(queries)
        totals = torch.empty(*queries.shape[:3], 1)  # ln of the sum of each query's exponentials
        blocks = [*_blocks(tokens, seen)]
        for first, last, since, upto, hidden in blocks:
            some = queries[:, :, first:last].reshape(owners, -1, width).float().mul_(scale)
            scores = torch.bmm(some, exact[:, :, :upto]).view(owners, -1, last - first, upto)
            scores[..., since:].masked_fill_(hidden, float("-inf"))
            highest = scores.amax(dim=-1, keepdim=True)
            total = scores.sub_(highest).exp_().sum(dim=-1, keepdim=True)
            mixed = torch.bmm(scores.to(query.dtype).view(owners, -1, upto), values[:, :upto])
            out[:, :, first:last] = mixed.view(owners, -1, last - first, width) / total
            totals[:, :, first:last] = highest + total.log()
        ctx.save_for_backward(queries, keys, values, out, totals)
        ctx.scale, ctx.shapes, ctx.blocks = scale, (query.shape, key.shape), blocks
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, out, totals = ctx.saved_tensors
        of_query, of_key = ctx.shapes
        owners, _, _, width = queries.shape
        slopes = gradients[0].reshape(queries.shape)
        exact_keys, exact_values = (part.float().transpose(1, 2) for part in (keys, values))
        to_query = torch.empty_like(queries)
        to_key, to_value = (torch.zeros_like(part, dtype=torch.float32) for part in (keys, values))
        for first, last, since, upto, hidden in ctx.blocks:
            some, slope, own = (part[:, :, first:last].reshape(owners, -1, width) for part in (queries, slopes, out))
            shares = torch.bmm(some.float().mul_(ctx.scale), exact_keys[:, :, :upto])
            by_query = shares.view(owners, -1, last - first, upto)
            by_query.sub_(totals[:, :, first:last]).exp_()
            by_query[..., since:].masked_fill_(hidden, 0.0)
            to_value[:, :upto] += torch.bmm(shares.to(keys.dtype).transpose(1, 2), slope)
            exact = slope.float()
            mean = (exact * own).sum(dim=-1, keepdim=True)
            to_scores = torch.bmm(exact, exact_values[:, :, :upto]).sub_(mean).mul_(shares).mul_(ctx.scale)
            rounded = to_scores.to(keys.dtype)
            to_query[:, :, first:last] = torch.bmm(rounded, keys[:, :upto]).view(owners, -1, last - first, width)
            to_key[:, :upto] += torch.bmm(rounded.transpose(1, 2), some)
        return (
            to_query.view(of_query),
            to_key.to(keys.dtype).view(of_key),
            to_value.to(keys.dtype).view(of_key),
            None,
            None,
        )
