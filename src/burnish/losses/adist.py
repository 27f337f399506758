"""Attention distillation: the retriever learns how much the generator looks at each passage."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from burnish.losses import Loss, Reads
from burnish.passage_softmax import Direction, divergence


class Adist(Loss):
    """KL( softmax(attention / τ) ‖ softmax(s / θ) ) over a question's passages, summed over questions.

    Trains the retriever alone. Sources: Izacard and Grave 2021 (arXiv 2012.04584); weights times the norms of values,
    Izacard et al. 2022 (Atlas, arXiv 2208.03299). Gradients as in `pdist`.
    target_temperature: τ; attention is a sum over layers and tokens, whose size is the network's and grows with the
    answer: look at the target's entropy, and choose τ by it. direction: `forward`, KL(target‖ours); or `reverse`.
    temperature: θ, of our cosines, as in `contrastive`. One passage alone teaches nothing.
    Needs: questions with answers, passages, and a generator that shows its attention. Relates to: `pdist` and `loop`,
    which ask what a passage does for the answer, and not where the generator looks.
    Example: scores (2, 5), attention (2, 5) of two questions with five passages each → a scalar.
    """

    reads: ClassVar[Reads] = "attention"
    trains_generator: ClassVar[bool] = False

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    target_temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    direction: Direction = "forward"

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, attention_rk: Tensor) -> Tensor:
        """Return the sum over questions.

        scores_rk, there_rk: (questions, passages), as in `Joint`. attention_rk: the same shape, the generator's from
        the answer's tokens to the passage's with all passages before it: weight times the value's norm, the mean over
        heads, summed over layers, the answer's tokens and the passage's tokens; not to the text's first token, where
        attention falls that falls on nothing.
        """
        return divergence(
            scores_rk,
            attention_rk,
            there_rk,
            temperature=self.temperature,
            target_temperature=self.target_temperature,
            direction=self.direction,
        )
