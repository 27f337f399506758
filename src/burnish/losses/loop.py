"""Leave-one-out: the retriever learns how much less likely the answer is without each passage."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss, Reads
from burnish.passage_softmax import Direction, divergence, mean_logps


class Loop(Loss, Joint):
    """KL( softmax(-ln π(answer | all passages but k) / τ) ‖ softmax(s / θ) ), summed over questions.

    Trains the retriever alone. Source: Izacard et al. 2022 (Atlas, arXiv 2208.03299); ln π by the token, as in their
    code. Gradients as in `pdist`. The generator reads a question's passages together, once for each that it leaves out.
    A passage that stands twice is not missed by either one's absence, and neither is one that says what another says.
    direction: `forward`, KL(target‖ours); or `reverse`. target_temperature: τ. temperature: θ, of our cosines, as in
    `contrastive`. One passage alone teaches nothing.
    Needs: questions with answers, and passages. Relates to: `pdist`, where each passage is read alone.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each, logps[:, 0] given the other four
    → a scalar.
    """

    reads: ClassVar[Reads] = "all_but"

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    target_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    direction: Direction = "forward"

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; logps_rkt[:, k] are given all passages but k, all else as in `Joint`."""
        return divergence(
            scores_rk,
            -mean_logps(logps_rkt, tokens_r),
            there_rk,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
            direction=self.direction,
        )
