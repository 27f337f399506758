"""EMDR²: the retriever learns which passages made the answer probable, and the generator is left alone."""

import torch
from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss
from burnish.passage_softmax import answer_logps, log_shares


class Emdr2(Loss, Joint):
    """-ln Σ_k p(k) · π(answer | passage k), without gradient in π; p = softmax(s / θ), summed over questions.

    Trains the retriever alone. Sources: Sachan et al. 2021 (arXiv 2106.05346), whose reader learns by a loss of its
    own; Izacard et al. 2022 (Atlas, arXiv 2208.03299), whose code takes it token by token, as the paper does not.
    Gradient in s_k: (p(k) - r_k) / θ, with the posterior r_k = p(k) π_k / Σ_j p(j) π_j, which for long answers is one
    passage alone, as in `rag_sequence`; `pdist` compares by the token.
    temperature: θ, of our cosines, as in `contrastive`. One passage alone teaches nothing.
    Needs: questions with answers, and passages. Relates to: `rag_sequence`, the same value, which trains both halves;
    `pdist`, whose target does not ask where the retriever stands.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each → a scalar.
    """

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; the tensors as in `Joint`."""
        prior_rk = log_shares(scores_rk, there_rk, temperature=self.temperature)
        both_rk = (prior_rk + answer_logps(logps_rkt.detach(), tokens_r)).masked_fill(~there_rk, -torch.inf)
        return -both_rk.logsumexp(dim=1).sum()
