"""KTO: single answers, each liked or not, against what any text gains on average."""

from pydantic import Field
from torch import Tensor

from burnish.losses import Answers, Loss


class Kto(Loss):
    """λ_good (1 - σ(β (r - z0))) of a good answer, λ_bad (1 - σ(β (z0 - r))) of a bad one; r = ln π - ln π_reference.

    z0 = max(0, mean over the batch's rows of r of an answer that belongs to another prompt), without gradient: an
    estimate of KL(π‖π_reference), above which an answer counts as gained. It needs two rows or more.
    weights: λ; where good and bad rows are not as many, choose them so that λ_good · good / (λ_bad · bad) lies between
    1 and 1.5. Source: Ethayarajh et al. 2024 (arXiv 2402.01306). Gradient in r of a good answer: -λ β σ' (β (r - z0)).
    Needs: thumbs, and the reference. Relates to: `dpo`, which needs two answers to one prompt.
    Example: answers to 4 prompts, 4 booleans, 4 answers to other prompts → a scalar.
    """

    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    good_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    bad_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def __call__(self, answers: Answers, good: Tensor, mismatched: Answers) -> Tensor:
        """Return the sum over rows.

        good: (rows,) booleans. mismatched: answers that do not belong to the prompts that they were read behind.
        """
        gaps = self.rewards(answers) - self.baseline(mismatched)
        liked = good.to(gaps.dtype)
        signs, weights = 2 * liked - 1, liked * self.good_weight + (1 - liked) * self.bad_weight
        return (weights * (-signs * gaps).sigmoid()).sum()

    def baseline(self, mismatched: Answers) -> Tensor:
        """Return β·z0, a scalar without gradient."""
        return self.beta * mismatched.gains.detach().mean().clamp(min=0)

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): β·r."""
        return self.beta * answers.gains
