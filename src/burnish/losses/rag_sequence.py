"""RAG-Sequence: the answer's probability, each passage having been the one that it was written from."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss
from burnish.passage_softmax import answer_logps, log_shares


class RagSequence(Loss, Joint):
    """-ln Σ_k p(k) · π(answer | passage k), with p = softmax(s / θ) over a question's passages, summed over questions.

    Trains both halves. Source: Lewis et al. 2020 (arXiv 2005.11401). With the posterior r_k = p(k) π_k / Σ_j p(j) π_j,
    the gradient in s_k is (p(k) - r_k) / θ and in ln π_k it is -r_k.
    Whole answers' ln π differ by tens of nats where answers are long: r is then one passage alone, mostly the one that
    was ahead before, and the retriever narrows to it. Nothing is tempered here, for the loss is a probability; `pdist`
    and `replug` compare by the token, and `rag_token` has a posterior for each token.
    temperature: θ, of our cosines, as in `contrastive`. One passage alone teaches the retriever nothing.
    Needs: questions with answers, and passages. Relates to: `rag_token`, the same where answers have one token;
    `emdr2`, the same for the retriever alone.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each → a scalar.
    """

    trains_generator: ClassVar[bool] = True

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; the tensors as in `Joint`."""
        prior_rk = log_shares(scores_rk, there_rk, temperature=self.temperature)
        both_rk = (prior_rk + answer_logps(logps_rkt, tokens_r)).masked_fill(~there_rk, -torch.inf)
        return -both_rk.logsumexp(dim=1).sum()
