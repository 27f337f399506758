"""REPLUG LSR: the retriever learns how probable each passage makes the answer."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss
from burnish.passage_softmax import Direction, answer_logps, divergence, mean_logps


class Replug(Loss, Joint):
    """KL between softmax(P(answer | passage) / β) and softmax(s / γ) over a question's passages, summed over questions.

    Trains the retriever alone; P is a probability, from 0 to 1, and not its logarithm. Source: Shi et al. 2023
    (arXiv 2301.12652), who write KL(ours‖target), `reverse`; `forward`, KL(target‖ours), is what others compute under
    the name. Gradients as in `pdist`.
    probability: `mean`, e to the mean ln of a token; or `sequence`, of the whole answer, as in the paper: long answers'
    are all 0 beside β, so that the target is uniform and teaches that no passage is better.
    temperature: γ, of cosines in the paper too, where it is 0.1; 0.05 as in `contrastive`, which our retrievers are
    trained with. target_temperature: β, in the paper 0.1; even a sure passage gets no more than e^(1 / β) times the
    share of a useless one. One passage alone teaches nothing.
    Needs: questions with answers, and passages. Relates to: `pdist`, whose target is of ln P and sees differences
    between improbable answers.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    target_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    probability: Literal["mean", "sequence"] = "mean"
    direction: Direction = "forward"

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; the tensors as in `Joint`."""
        logps = mean_logps if self.probability == "mean" else answer_logps
        return divergence(
            scores_rk,
            logps(logps_rkt, tokens_r).exp(),
            there_rk,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
            direction=self.direction,
        )
