"""Triplet loss: a positive nearer to its query than a negative, by a margin."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from burnish.losses import Loss

_NEAREST = 1e-12  # squared distance below which there is no slope: that of the root is infinite at 0


class Triplet(Loss):
    """max(0, d(q, p) - d(q, n) + margin), averaged over a row's pairs of a positive and a negative, summed over rows.

    `cosine`: d = 1 - s. `euclidean`: d = √(2 - 2·s), the distance of vectors of unit length.
    The margin is FaceNet's (Schroff et al. 2015, arXiv 1503.03832), whose 0.2 stands between squared distances, each
    twice 1 - s. Gradient of a pair that costs something, in s: -d'(s) pulls p, d'(s) pushes n.
    Needs: pairs with negatives. Relates to: `contrastive`, which has no margin and sees the whole batch;
    `margin_mse`, where a teacher says the margin.
    Example: cosines (2, 3) of two queries with a positive and two negatives each → a scalar.
    """

    distance: Literal["cosine", "euclidean"] = "cosine"
    margin: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rc: Tensor, positive_rc: Tensor, negative_rc: Tensor) -> Tensor:
        """Return the sum over rows.

        scores_rc: (rows, candidates), cosines. positive_rc, negative_rc: the same shape, which of a row's candidates
        are right and which wrong; at least one each, and neither where the row is padded.
        """
        scores_rc = scores_rc.float()
        far_rc = 1 - scores_rc if self.distance == "cosine" else (2 - 2 * scores_rc).clamp_min(_NEAREST).sqrt()
        gap_rpn = (far_rc[:, :, None] - far_rc[:, None, :] + self.margin).relu()
        pair_rpn = positive_rc[:, :, None] & negative_rc[:, None, :]
        return ((gap_rpn * pair_rpn).sum(dim=(1, 2)) / pair_rpn.sum(dim=(1, 2))).sum()
