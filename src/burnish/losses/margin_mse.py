"""Margin-MSE: how much better a positive is than a negative, as a teacher says it."""

from pydantic import Field
from torch import Tensor

from burnish.losses import Loss


class MarginMse(Loss):
    """((s_p - s_n) · scale - (t_p - t_n))², averaged over a row's pairs of a positive and a negative, summed over rows.

    Source: Hofstätter et al. 2020 (arXiv 2010.02666). Gradient in s_p: 2 · scale · (our margin - the teacher's); in
    s_n: minus that.
    scale: what a cosine is multiplied by. Margins of cosines are at most 2: leave 1 for a teacher that gives cosines,
    and take about 10 for a cross-encoder's logits, or no vectors reach its margins.
    Needs: pairs with negatives and a teacher's scores. Relates to: `distill`, which reads the same scores as a
    distribution and sees no difference between two candidates that both are hopeless; `triplet`.
    Example: cosines (2, 3) of two queries with a positive and two negatives each, teacher's scores (2, 3) → a scalar.
    """

    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rc: Tensor, positive_rc: Tensor, negative_rc: Tensor, teacher_rc: Tensor) -> Tensor:
        """Return the sum over rows.

        scores_rc, teacher_rc: (rows, candidates), ours and the teacher's. positive_rc, negative_rc: the same shape,
        which of a row's candidates are right and which wrong; at least one each, and neither where the row is padded.
        """
        beyond_rc = scores_rc.float() * self.scale - teacher_rc.float()
        gap_rpn = beyond_rc[:, :, None] - beyond_rc[:, None, :]
        pair_rpn = positive_rc[:, :, None] & negative_rc[:, None, :]
        return ((gap_rpn.square() * pair_rpn).sum(dim=(1, 2)) / pair_rpn.sum(dim=(1, 2))).sum()
