"""T-Few's loss: the right choice likely, the wrong ones unlikely, and the right one first by the token."""

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from burnish.errors import RecipeError
from burnish.losses import Loss

NEAREST = 1e-6  # to 1, of a probability whose complement has a logarithm


class TFew(Loss):
    """a · L_LM + b · L_UL + c · L_LN over a row's choices y of T tokens each, summed over rows; n are the wrong ones.

    L_LM = -1/T Σ_t ln p_t of the right choice. L_UL = -Σ_n Σ_t ln(1 - p_t) / Σ_n T_n. L_LN = -ln softmax(β) of the
    right choice over all, with β = 1/T Σ_t ln p_t.
    Source: Liu et al. 2022 (arXiv 2205.05638); the unlikelihood of Welleck et al. 2020 (arXiv 1908.04319).
    Gradient in ln p_t: of the right choice -(a + c · (1 - s)) / T, of a wrong one b · p_t / ((1 - p_t) · Σ_n T_n)
    + c · s_n / T_n, with s = softmax(β).
    lm, unlikelihood, ranking: a, b and c; 0 leaves a part out.
    Needs: prompts with choices. Relates to: `cross_entropy` over a new head, which needs more rows.
    Example: logps (2, 3, 5) of two rows with three choices of up to five tokens → a scalar.
    """

    lm: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    unlikelihood: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    ranking: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_a_part(self) -> "TFew":
        """Check that something is learned.

        Raises:
            RecipeError: every part is left out.
        """
        if not self.lm and not self.unlikelihood and not self.ranking:
            raise RecipeError("loss t_few: lm, unlikelihood and ranking are all 0, which leaves nothing to learn")
        return self

    def __call__(self, logps_rct: Tensor, tokens_rc: Tensor, right_r: Tensor) -> Tensor:
        """Return the sum over rows, in fp32, or in fp64 of such logps.

        logps_rct: (rows, choices, tokens), ln of the probability of each token, anything where padded. tokens_rc:
        (rows, choices), how many of them are the choice's; 0 where the row has fewer choices. right_r: (rows,), the
        right choice's number.
        """
        logps_rct = logps_rct if logps_rct.dtype == torch.float64 else logps_rct.float()
        in_choice_rct = torch.arange(logps_rct.shape[2], device=logps_rct.device) < tokens_rc[:, :, None]
        logps_rct = logps_rct.masked_fill(~in_choice_rct, 0)
        mean_rc = logps_rct.sum(dim=2) / tokens_rc.clamp(min=1)
        right_rc = functional.one_hot(right_r, logps_rct.shape[1]).bool()
        total = logps_rct.new_zeros(())
        if self.lm:
            total = total - self.lm * mean_rc[right_rc].sum()
        if self.unlikelihood:
            wrong_rct = in_choice_rct & ~right_rc[:, :, None]
            unlikely_rct = torch.log(-torch.expm1(logps_rct.clamp(max=-NEAREST)))
            sums_r = unlikely_rct.masked_fill(~wrong_rct, 0).sum(dim=(1, 2))
            total = total - self.unlikelihood * (sums_r / wrong_rct.sum(dim=(1, 2)).clamp(min=1)).sum()
        if self.ranking:
            shares_rc = mean_rc.masked_fill(tokens_rc == 0, -torch.inf).log_softmax(dim=1)
            total = total - self.ranking * shares_rc[right_rc].sum()
        return total
