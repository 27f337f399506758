"""IPO: the preferred answer keeps a fixed distance to the rejected one, and no more."""

from pydantic import Field
from torch import Tensor

from burnish.losses import Answers, Loss, Prefers


class Ipo(Loss, Prefers):
    """(h - 1 / (2τ))², with h = r(chosen) / |chosen| - r(rejected) / |rejected| and r = ln π - ln π_reference.

    The averages a token are those of its authors' experiments; the paper's formula leaves open whether sums are meant,
    with which the distance would be a matter of length. Source: Azar et al. 2023 (arXiv 2310.12036, eq. 17). Gradient
    in h: 2 (h - 1 / (2τ)), which turns round where the distance is reached: preferences that never contradict each
    other cannot drive the model arbitrarily far.
    Needs: preferences, and the reference. Relates to: `dpo`, which always wants more.
    Example: answers to 4 prompts → a scalar.
    """

    tau: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    def __call__(self, chosen: Answers, rejected: Answers) -> Tensor:
        """Return the sum over rows."""
        return (self.rewards(chosen) - self.rewards(rejected) - 1 / (2 * self.tau)).square().sum()

    def rewards(self, answers: Answers) -> Tensor:
        """Return (rows,): r a token."""
        return answers.gains / answers.tokens
