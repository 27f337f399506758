"""Distillation: a teacher's softmax over a row's passages, learned by divergence."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from burnish.losses import Loss


class Distill(Loss):
    """τ² · KL( softmax(t / τ_t) ‖ softmax(s / τ) ) over a row's positives and negatives, summed over rows.

    Source: Hinton et al. 2015 (arXiv 1503.02531), whose τ² keeps the gradient's size whatever the temperature; for
    retrieval Lin et al. 2020 (arXiv 2010.11386). Gradient in s: τ · (softmax(s / τ) - softmax(t / τ_t)).
    temperature: τ, of our cosines, as in `contrastive`. teacher_temperature: τ_t; 1 for the logits of a cross-encoder,
    and for a teacher that gives cosines the temperature that it was trained with.
    labels: λ, of τ² · `contrastive` beside it, which the task adds: a teacher orders a row's own passages, and labels
    push all others of the batch away (RocketQAv2, Ren et al. 2021, arXiv 2110.07367, add a loss of labels too).
    Needs: pairs with a teacher's scores, and two passages at least. Relates to: `margin_mse`, which copies differences
    of scores and not their order of size alone; `contrastive`, where the target is one passage.
    Example: cosines (2, 3) of two queries with three passages each, teacher's scores (2, 3) → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    teacher_temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    labels: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @property
    def labels_share(self) -> float:
        """What `contrastive` of the same temperature counts beside this loss: λ · τ²."""
        return self.labels * self.temperature**2

    def __call__(self, scores_rc: Tensor, there_rc: Tensor, teacher_rc: Tensor) -> Tensor:
        """Return the sum over rows.

        scores_rc, teacher_rc: (rows, candidates), ours and the teacher's. there_rc: the same shape, false where the
        row is padded.
        """
        ours_rc = (scores_rc.float() / self.temperature).masked_fill(~there_rc, -torch.inf).log_softmax(dim=1)
        theirs_rc = (teacher_rc.float() / self.teacher_temperature).masked_fill(~there_rc, -torch.inf).softmax(dim=1)
        whole = functional.kl_div(ours_rc.masked_fill(~there_rc, 0), theirs_rc, reduction="sum")  # 0 · -∞ is no number
        return whole * self.temperature**2
