"""Bradley–Terry: of two answers, how probable it is that the preferred one wins, by the difference of their scores."""

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses import Loss


class BradleyTerry(Loss):
    """-log σ(s(chosen) - s(rejected) - margin) + center · (s(chosen) + s(rejected))².

    Scores are known but for a constant, the same for all; center: how hard they are held around 0, by its maker .01.
    Sources: Bradley & Terry 1952; margins, Touvron et al. 2023 (Llama 2, arXiv 2307.09288, eq. 2); the centre,
    Eisenstein et al. 2023 (arXiv 2312.09244). Gradient in s(chosen) without a centre: -σ(margin - gap).
    Needs: preferences. Relates to: `dpo`, where the policy's own likelihoods are the scores.
    Example: scores (4,) and (4,) → a scalar.
    """

    center: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def __call__(self, chosen: Tensor, rejected: Tensor, margins: Tensor) -> Tensor:
        """Return the sum over rows; margins: (rows,), 0 where none is known."""
        total = -logsigmoid(chosen - rejected - margins).sum()
        return total + self.center * (chosen + rejected).square().sum() if self.center else total
