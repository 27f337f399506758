"""DPO: the preferred answer gains on the rejected one, measured against the model before it was trained."""

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.errors import RecipeError
from burnish.losses import Answers, Loss, Prefers


class Dpo(Loss, Prefers):
    """-log σ(βh), with h = r(chosen) - r(rejected) and r = ln π - ln π_reference, summed over an answer's tokens.

    label_smoothing: ε, how many of the labels are thought to be the wrong way round, below a half.
    smoothed `conservative` (cDPO): -(1 - ε) log σ(βh) - ε log σ(-βh), whose best h is finite;
    `robust`: [-(1 - ε) log σ(βh) + ε log σ(-βh)] / (1 - 2ε), in expectation over flipped labels the loss without any.

    Sources: Rafailov et al. 2023 (arXiv 2305.18290); cDPO, Mitchell 2023 (a note on DPO with noisy preferences);
    robust, Ray Chowdhury et al. 2024 (arXiv 2403.00409). Gradient in h without smoothing: -β σ(-βh).
    Needs: preferences, and the reference. Relates to: `dpo_norm`, per token; `ipo`, which stops at a distance.
    Example: answers to 4 prompts → a scalar.
    """

    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    smoothed: Literal["conservative", "robust"] = "conservative"

    @model_validator(mode="after")
    def _has_something_to_be_robust_to(self) -> Self:
        """Check that every setting applies.

        Raises:
            RecipeError: labels that are all right are to be read robustly.
        """
        if self.smoothed == "robust" and not self.label_smoothing:
            raise RecipeError("smoothed: robust needs label_smoothing above 0, the share of labels that may be wrong")
        return self

    def __call__(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the sum over rows."""
        gaps = self.rewards(chosen) - self.rewards(rejected)
        right, wrong, share = -logsigmoid(gaps), -logsigmoid(-gaps), self.label_smoothing
        if self.smoothed == "robust":
            return (((1 - share) * right - share * wrong) / (1 - 2 * share)).sum()
        return ((1 - share) * right + share * wrong).sum() if share else right.sum()

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): β·r."""
        return self.beta * answers.gains
