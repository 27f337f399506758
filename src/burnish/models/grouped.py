"""Attention of short texts in bf16 on a processor, where torch's own takes twice as long: most of it in the gradient.

The queries of all heads that share a key stand in one product, so that no key is copied; scores and their gradient are
fp32, as in torch's, and what meets the values is rounded to bf16.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LIMIT = 2**17  # queries × keys of a head: what is kept for the gradient grows with them, and longer texts gain nothing


def suits(query: Tensor, key: Tensor, settings: dict[str, Any]) -> bool:
    """Tell whether `attend` is the faster way, and gives what is asked for.

    query: (pieces, heads, tokens, width). key: (pieces, key heads, seen tokens, width). settings: what the network's
    layer says beside them.
    """
    short = query.shape[2] * key.shape[2] <= LIMIT
    return short and query.device.type == "cpu" and query.dtype == torch.bfloat16 and not settings.get("dropout")


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float | None) -> Tensor:
    """Return (pieces, tokens, heads, width): each query's mean of the values that it sees, by softmax of the scores.

    query, key: as in `suits`; value: as key. seen: (1, 1, tokens, seen tokens), true where a key is seen; None: as many
    keys as queries, each sees those up to its own. scale: of the scores; None: one by the root of the width.
    """
    if seen is None:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()[None, None]
    function: Any = _Attention
    found: Tensor = function.apply(query, key, value, ~seen, query.shape[-1] ** -0.5 if scale is None else scale)
    return found.transpose(1, 2)


class _Attention(Function):
    """Within: (pieces · key heads, the queries of all heads that share a key, or keys, width)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scale: float) -> Tensor:
        pieces, heads, tokens, width = query.shape
        owners = pieces * key.shape[1]
        queries = query.reshape(owners, -1, width)
        keys, values = (part.reshape(owners, -1, width) for part in (key, value))
        scores = torch.bmm(queries.float(), keys.float().transpose(1, 2)).mul_(scale)
        scores.view(pieces, heads, tokens, -1).masked_fill_(hidden, float("-inf"))
        shares = scores.softmax(dim=-1).to(query.dtype)
        out = torch.bmm(shares, values)
        ctx.save_for_backward(queries, keys, values, shares, out)
        ctx.scale, ctx.shapes = scale, (query.shape, key.shape)
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, shares, out = ctx.saved_tensors
        of_query, of_key = ctx.shapes
        slope = gradients[0].reshape(out.shape)
        to_value = torch.bmm(shares.transpose(1, 2), slope)
        exact = slope.float()
        mean = (exact * out).sum(dim=-1, keepdim=True)
        to_scores = torch.bmm(exact, values.float().transpose(1, 2)).sub_(mean).mul_(shares).mul_(ctx.scale)
        rounded = to_scores.to(shares.dtype)
        to_query = torch.bmm(rounded, keys).view(of_query)
        to_key = torch.bmm(rounded.transpose(1, 2), queries).view(of_key)
        return to_query, to_key, to_value.view(of_key), None, None
