"""Listwise cross-entropy: a query's right passages among its own wrong ones."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from burnish.losses import Loss


class Listwise(Loss):
    """Softmax cross-entropy over the scores of one query's passages, summed over the queries.

    target `each`: each positive p against the negatives n, -log( e^{s_p/τ} / (e^{s_p/τ} + Σ_n e^{s_n/τ}) ), averaged
    over the positives (localized contrastive estimation, Gao et al. 2021, arXiv 2101.08751). Gradient for one positive:
    (softmax(s/τ) - onehot(p)) / τ.
    target `listnet`: -Σ_i softmax(y)_i · log softmax(s/τ)_i with y = 1 for positives and 0 for negatives (ListNet, Cao
    et al. 2007, ICML). Its best answer leaves every negative a share: of one positive and four negatives the positive
    gets 0.40. Gradient: (softmax(s/τ) - softmax(y)) / τ.
    A number that is added to all scores of a query changes nothing: scores compare within one query.
    Needs: pairs with negatives. Relates to: `binary`, where each passage stands for itself and scores compare between
    queries; `contrastive`, the same formula over the passages of the whole batch; `distill`, where a teacher says the
    target.
    Example: scores (2, 5) of two queries with a positive and four negatives each → a scalar.
    """

    target: Literal["each", "listnet"] = "each"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rc: Tensor, positive_rc: Tensor, negative_rc: Tensor) -> Tensor:
        """Return the sum over queries.

        scores_rc: (queries, candidates), of any size. positive_rc, negative_rc: the same shape, which of a query's
        candidates are right and which wrong; at least one each, and neither where the row is padded.
        """
        logits_rc = scores_rc.float() / self.temperature
        if self.target == "listnet":
            there_rc = positive_rc | negative_rc
            target_rc = positive_rc.float().masked_fill(~there_rc, -torch.inf).softmax(dim=1)
            found_rc = logits_rc.masked_fill(~there_rc, -torch.inf).log_softmax(dim=1)
            return -(target_rc * found_rc.masked_fill(~there_rc, 0)).sum()  # 0 · -∞ is no number
        wrong_r = logits_rc.masked_fill(~negative_rc, -torch.inf).logsumexp(dim=1)
        nll_rc = functional.softplus(wrong_r[:, None] - logits_rc)
        return ((nll_rc * positive_rc).sum(dim=1) / positive_rc.sum(dim=1)).sum()
