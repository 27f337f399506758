"""Perplexity distillation: the retriever learns how much likelier each passage makes the answer."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss
from burnish.passage_softmax import Direction, answer_logps, divergence, mean_logps


class Pdist(Loss, Joint):
    """KL( softmax(ln π(answer | passage) / τ) ‖ softmax(s / θ) ) over a question's passages, summed over questions.

    Trains the retriever alone. Source: Izacard et al. 2022 (Atlas, arXiv 2208.03299). Gradient in s_k with
    p = softmax(s / θ) and Q the target: (p(k) - Q(k)) / θ; `reverse`: p(k) / θ · (ln(p(k) / Q(k)) - KL(p‖Q)).
    length: `mean`, ln π by the token, as in Atlas' code; or `none`, of the whole answer, as in the paper, for which τ
    is 1 or more, or the target is one passage alone where answers are long.
    target_temperature: τ; passages move the mean of a token's ln π by tenths of a nat. Atlas takes 0.01.
    direction: `forward`, KL(Q‖p), gives every useful passage its share; `reverse`, KL(p‖Q), lets p choose among them.
    temperature: θ, of our cosines, as in `contrastive`. One passage alone teaches nothing.
    Needs: questions with answers, and passages. Relates to: `replug`, whose target is of probabilities; `emdr2`, whose
    target is the posterior; `loop`, where passages are read together.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    target_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    length: Literal["mean", "none"] = "mean"
    direction: Direction = "forward"

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; the tensors as in `Joint`."""
        signal = mean_logps if self.length == "mean" else answer_logps
        return divergence(
            scores_rk,
            signal(logps_rkt, tokens_r),
            there_rk,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
            direction=self.direction,
        )
