"""An anchor for a retriever: its softmax over a question's passages stays near the one it started with."""

from pydantic import Field
from torch import Tensor

from burnish.losses import Loss
from burnish.passage_softmax import divergence


class AnchorKl(Loss):
    """KL( softmax(s₀ / θ) ‖ softmax(s / θ) ) over a question's passages, s₀ those at the start, summed over questions.

    What a retriever learns from a generator may narrow to few passages; added with a weight, this holds it back.
    Source: the divergence of distillation (Hinton et al. 2015, arXiv 1503.02531). Gradient in s: (softmax(s / θ) -
    softmax(s₀ / θ)) / θ, which is 0 at the start.
    temperature: θ, of our cosines, as in `contrastive`; one for both, or the start would be no rest. One passage alone
    holds nothing.
    Needs: passages. Relates to: `listwise`, the anchor where it is known which passage is right.
    Example: scores (2, 5) of two questions with five passages each, scores at the start (2, 5) → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, start_rk: Tensor) -> Tensor:
        """Return the sum over questions.

        scores_rk, there_rk: (questions, passages), as in `Joint`. start_rk: the same shape, the scores of the same
        passages by the retriever as it was before it was trained.
        """
        return divergence(
            scores_rk,
            start_rk,
            there_rk,
            temperature=self.temperature,
            target_temperature=self.temperature,
            direction="forward",
        )
