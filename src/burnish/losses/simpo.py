"""SimPO: the preferred answer likelier by the token than the rejected one, with no model to compare with."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses import Answers, Loss, Prefers


class Simpo(Loss, Prefers):
    """-log σ(β ln π(chosen) / |chosen| - β ln π(rejected) / |rejected| - γ).

    gamma: γ, in the unit of β times nats a token; the paper tunes γ/β, and finds .5 a good start.
    Source: Meng et al. 2024 (arXiv 2405.14734). Gradient in ln π(chosen): -β σ(-gap) / |chosen|.
    Needs: preferences. Relates to: `dpo_norm`, which measures from the model before it was trained.
    Example: answers to 4 prompts → a scalar.
    """

    needs_reference: ClassVar[bool] = False

    beta: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    gamma: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    def __call__(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the sum over rows."""
        return -logsigmoid(self.rewards(chosen) - self.rewards(rejected) - self.gamma).sum()

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): β times the mean log-probability of a token."""
        return self.beta * answers.logps / answers.tokens
