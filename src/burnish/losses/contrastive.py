"""InfoNCE: the right passage among the batch's passages and the mined hard negatives."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.losses import Loss


class Contrastive(Loss):
    """InfoNCE with in-batch and hard negatives, several positives allowed, false negatives masked.

    For each positive p of query q: -log( e^{s_qp/τ} / (e^{s_qp/τ} + Σ_n e^{s_qn/τ}) ), n over the passages of the
    batch that are not positives of q; averaged over q's positives, summed over queries.
    Source: van den Oord et al. 2018 (arXiv 1807.03748); in-batch negatives as in DPR (Karpukhin et al. 2020,
    arXiv 2004.04906). Gradient for one positive: (softmax(s/τ) - onehot(p)) / τ.
    A passage that is a positive of q by text or by label is never its negative. With `false_negatives: m`, a passage
    scoring more than m above the positive is taken for an unlabelled positive and masked (no gradient through that).
    Needs: pairs. Relates to: `cross_entropy`, the same with fixed classes.
    Example: scores (8, 16) of 8 queries against 8 positives and 8 negatives → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0)
    learn: Literal["nothing", "temperature"] = "nothing"
    false_negatives: float | None = None

    def __call__(self, scores_qd: Tensor, positive_qd: Tensor, *, scale: Tensor | float | None = None) -> Tensor:
        """Return the sum over queries.

        scores_qd: (queries, passages), cosines or dot products. positive_qd: the same shape, true where the passage
        is a positive of the query; each row holds at least one. scale: 1/τ, where it is learned.
        """
        scores_qd = scores_qd.float()
        logits_qd = scores_qd * (1 / self.temperature if scale is None else scale)
        rows_p, columns_p = positive_qd.nonzero(as_tuple=True)  # one line for each positive
        hidden_pd = positive_qd[rows_p]
        if self.false_negatives is not None:
            bar_p = scores_qd.detach()[rows_p, columns_p] + self.false_negatives
            hidden_pd = hidden_pd | (scores_qd.detach()[rows_p] > bar_p[:, None])
        right_p = logits_qd[rows_p, columns_p]
        wrong_pd = logits_qd[rows_p].masked_fill(hidden_pd, -torch.inf)
        nll_p = torch.logsumexp(torch.cat([right_p[:, None], wrong_pd], dim=1), dim=1) - right_p
        return (nll_p / positive_qd.sum(dim=1)[rows_p]).sum()
