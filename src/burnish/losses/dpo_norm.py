"""Length-normalised DPO: what an answer has gained is counted by the token."""

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses import Answers, Loss, Prefers


class DpoNorm(Loss, Prefers):
    """-log σ(β [r(chosen) / |chosen| - r(rejected) / |rejected|]), with r = ln π - ln π_reference of the whole answer.

    A long answer gains no more than a short one by being long. Source: Lambert et al. 2024 (Tulu 3, arXiv 2411.15124),
    whose β is the default. Gradient in r(chosen): -β σ(-gap) / |chosen|.
    Needs: preferences, and the reference. Relates to: `dpo`, the same by sums; `simpo`, the same without a reference.
    Example: answers to 4 prompts → a scalar.
    """

    beta: float = Field(default=5.0, gt=0, allow_inf_nan=False)

    def __call__(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the sum over rows."""
        return -logsigmoid(self.rewards(chosen) - self.rewards(rejected)).sum()

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): β·r a token."""
        return self.beta * answers.gains / answers.tokens
