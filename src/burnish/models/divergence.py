"""How far one prediction is from another: Kullback-Leibler divergences of logits."""

from torch import Tensor
from torch.nn import functional


def divergence(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows KL(P‖Q) = Σ_rows Σ_k P_k · (log P_k - log Q_k) in nats, P and Q being the softmax of the two.

    right: P's logits, found: Q's, both (rows, classes), any float type; a scalar in fp32. Gradients flow into both.
    """
    ours, theirs = functional.log_softmax(found.float(), dim=1), functional.log_softmax(right.float(), dim=1)
    return functional.kl_div(ours, theirs, reduction="sum", log_target=True)


def binary_divergence(right: Tensor, found: Tensor) -> Tensor:
    """Return Σ_rows 1/L · Σ_l KL(P_l‖Q_l) in nats, where each of L labels is a question of its own: yes or no.

    The mean over labels, as in the loss `binary`. right: P's logits, found: Q's, both (rows, labels), any float type; a
    scalar in fp32. Gradients flow into both.
    """
    sides = ((right.float(), found.float()), (-right.float(), -found.float()))  # yes, then no
    parts = [(functional.logsigmoid(p) - functional.logsigmoid(q)) * functional.logsigmoid(p).exp() for p, q in sides]
    return (parts[0] + parts[1]).sum() / right.shape[1]
