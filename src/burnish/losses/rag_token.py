"""RAG-Token: each token's probability, any passage having been the one that it was written from."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from burnish.losses import Joint, Loss
from burnish.passage_softmax import in_answer, log_shares, wide


class RagToken(Loss, Joint):
    """-Σ_t ln Σ_k p(k) · π(token t | passage k), with p = softmax(s / θ) over passages, summed over questions.

    Trains both halves. Source: Lewis et al. 2020 (arXiv 2005.11401). With the posterior r_kt = p(k) π_kt / Σ_j p(j)
    π_jt, the gradient in s_k is Σ_t (p(k) - r_kt) / θ and in ln π_kt it is -r_kt.
    An answer may draw on several passages, and no token's posterior is that of one passage because the answer is long;
    the retriever's gradient grows with the answer instead, so that long answers count for more.
    temperature: θ, of our cosines, as in `contrastive`. One passage alone teaches the retriever nothing.
    Needs: questions with answers, and passages. Relates to: `rag_sequence`, the same where answers have one token.
    Example: scores (2, 5), logps (2, 5, 12) of two questions with five passages each → a scalar.
    """

    trains_generator: ClassVar[bool] = True

    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)

    def __call__(self, scores_rk: Tensor, there_rk: Tensor, logps_rkt: Tensor, tokens_r: Tensor) -> Tensor:
        """Return the sum over questions; the tensors as in `Joint`."""
        prior_rk = log_shares(scores_rk, there_rk, temperature=self.temperature)
        both_rkt = (prior_rk[:, :, None] + wide(logps_rkt)).masked_fill(~there_rk[:, :, None], -torch.inf)
        return -both_rkt.logsumexp(dim=1).masked_fill(~in_answer(logps_rkt, tokens_r), 0).sum()
