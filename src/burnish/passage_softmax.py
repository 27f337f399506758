"""The softmax over a question's passages: a retriever's, a generator's, and how far one is from the other.

Letters at the end of tensors' names: r questions, k a question's passages, t tokens of its answer.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Direction = Literal["forward", "reverse"]  # KL(target‖ours), which covers; KL(ours‖target), which picks


def log_shares(scores_rk: Tensor, there_rk: Tensor, *, temperature: float) -> Tensor:
    """Return (questions, passages): ln softmax(scores / temperature) over the passages that are there, else -∞.

    scores_rk: (questions, passages), any float type; the result is in fp32, or in fp64 of such scores. there_rk: the
    same shape, with at least one passage a question. What stands where none is, is not read, and gets no gradient.
    """
    return functional.log_softmax((wide(scores_rk) / temperature).masked_fill(~there_rk, -torch.inf), dim=1)


def divergence(
    scores_rk: Tensor,
    signal_rk: Tensor,
    there_rk: Tensor,
    *,
    temperature: float,
    target_temperature: float,
    direction: Direction,
) -> Tensor:
    """Return Σ_r KL in nats between the target softmax(signal / target_temperature) and softmax(scores / temperature).

    forward: KL(target‖ours), reverse: KL(ours‖target). All tensors (questions, passages), as in `log_shares`. The
    target gets no gradient. Gradient in the scores with p = ours, Q = the target, θ = temperature: forward
    (p_k - Q_k) / θ, reverse p_k / θ · (ln(p_k / Q_k) - KL(p‖Q)); both are 0 where a question has one passage.
    """
    ours_rk = log_shares(scores_rk, there_rk, temperature=temperature)
    target_rk = log_shares(signal_rk.detach(), there_rk, temperature=target_temperature)
    right_rk, found_rk = (target_rk, ours_rk) if direction == "forward" else (ours_rk, target_rk)
    gap_rk = (right_rk - found_rk).masked_fill(~there_rk, 0)  # -∞ + ∞ is no number
    return (right_rk.exp() * gap_rk).sum()


def answer_logps(logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
    """Return (questions, passages): ln of the whole answer's probability, summed over its tokens.

    logps_rkt: (questions, passages, tokens), of each token. tokens_r: (questions,), how many of them are the answer's;
    what stands behind is padding, is not read, and gets no gradient.
    """
    return wide(logps_rkt).masked_fill(~in_answer(logps_rkt, tokens_r)[:, None], 0).sum(dim=2)


def mean_logps(logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
    """Return (questions, passages): the mean of `answer_logps` over the answer's tokens, of which there is one."""
    return answer_logps(logps_rkt, tokens_r) / tokens_r[:, None]


def in_answer(logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
    """Return (questions, tokens): true where a token is the answer's, false where it is padding."""
    return torch.arange(logps_rkt.shape[2], device=logps_rkt.device) < tokens_r[:, None]


def wide(x: Tensor) -> Tensor:
    """Return x in fp32, or in fp64 where it is that."""
    return x if x.dtype == torch.float64 else x.float()
