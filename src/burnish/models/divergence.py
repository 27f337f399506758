"""How far one prediction is from another: Kullback-Leibler and Jensen-Shannon divergences of logits."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional


def divergence(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows KL(P‖Q) = Σ_rows Σ_k P_k · (log P_k - log Q_k) in nats, P and Q being the softmax of the two.

    right: P's logits, found: Q's, both (rows, classes), any float type; a scalar in fp32, or in fp64 of such logits.
    Gradients flow into both.
    """
    return functional.kl_div(_logs(found), _logs(right), reduction="sum", log_target=True)


def reverse_divergence(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows KL(Q‖P) in nats; all else as in `divergence`."""
    return divergence(found, right)


def jensen_shannon(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows ½·KL(P‖M) + ½·KL(Q‖M) in nats, M = ½·(P + Q), at most ln 2 a row; all else as in `divergence`."""
    ours, theirs = _logs(found), _logs(right)
    middle = torch.logaddexp(ours, theirs) - log(2)
    parts = [functional.kl_div(middle, side, reduction="sum", log_target=True) for side in (theirs, ours)]
    return (parts[0] + parts[1]) / 2


def binary_divergence(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows 1/L · Σ_l KL(P_l‖Q_l) in nats, where each of L labels is a question of its own: yes or no.

    The mean over labels, as in the loss `binary`. right: P's logits, found: Q's, both (rows, labels), any float type; a
    scalar in fp32. Gradients flow into both.
    """
    sides = ((right.float(), found.float()), (-right.float(), -found.float()))  # yes, then no
    parts = [(functional.logsigmoid(p) - functional.logsigmoid(q)) * functional.logsigmoid(p).exp() for p, q in sides]
    return (parts[0] + parts[1]).sum() / right.shape[1]


def _logs(logits: Tensor) -> Tensor:
    """Return log-probabilities, at least in fp32."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return functional.log_softmax(wide, dim=1)
