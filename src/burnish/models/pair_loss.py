"""The loss of a batch of queries and passages, from their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses import Loss
from burnish.losses.contrastive import Contrastive
from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.losses.triplet import Triplet
from burnish.models.matryoshka import shortened


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Queries and the batch's unique passages, as token ids, and what is known of them.

    candidates_rc: (queries, candidates), each row's own passages as places among `passages`. positive_rc, negative_rc:
    the same shape, which of them are right and which wrong; neither where a row is padded. teacher_rc: the same shape,
    a teacher's scores. known: (any, 2), a query's place and that of a passage which is never wrong for it, positives
    included. elsewhere: the same of passages that are not in the batch, a query's place and their token ids.
    """

    queries: Sequence[Sequence[int]]
    passages: Sequence[Sequence[int]]
    candidates_rc: Tensor
    positive_rc: Tensor
    negative_rc: Tensor
    teacher_rc: Tensor
    known: Tensor
    elsewhere: Sequence[tuple[int, Sequence[int]]] = ()


def pair_loss(
    loss: Loss,
    queries: Tensor,
    passages: Tensor,
    batch: PairBatch,
    *,
    dimensions: Sequence[int] = (),
    scale: Tensor | None = None,
) -> Tensor:
    """Return the loss, contrastive, triplet, margin_mse or distill, summed over the batch's queries.

    queries: (queries, width), passages: (passages, width), of unit length. scale: 1/τ, where it is learned.
    dimensions: the mean of the loss over the whole vectors and these first numbers of them, each made unit length again
    (Kusupati et al. 2022, arXiv 2205.13147, who add them up with equal weights: so many times as much).
    """
    widths = dict.fromkeys((*dimensions, queries.shape[1]))
    parts = [_loss(loss, shortened(queries, width), shortened(passages, width), batch, scale) for width in widths]
    return torch.stack(parts).mean()


def _loss(loss: Loss, queries: Tensor, passages: Tensor, batch: PairBatch, scale: Tensor | None) -> Tensor:
    """Return the loss of vectors of one width, summed over the batch's queries."""
    device = queries.device
    candidates_rc, positive_rc = batch.candidates_rc.to(device), batch.positive_rc.to(device)
    negative_rc, teacher_rc = batch.negative_rc.to(device), batch.teacher_rc.to(device)

    def contrastive(named: Contrastive) -> Tensor:
        return named.of_vectors(
            queries,
            passages,
            _pairs(candidates_rc, positive_rc),
            known=batch.known.to(device),
            negatives=_pairs(candidates_rc, negative_rc),
            scale=scale,
        )

    if isinstance(loss, Contrastive):
        return contrastive(loss)
    scores_rc = torch.einsum("rw,rcw->rc", queries, passages[candidates_rc])
    if isinstance(loss, Triplet):
        return loss(scores_rc, positive_rc, negative_rc)
    if isinstance(loss, MarginMse):
        return loss(scores_rc, positive_rc, negative_rc, teacher_rc)
    assert isinstance(loss, Distill)
    taught = loss(scores_rc, positive_rc | negative_rc, teacher_rc)
    return (
        taught + loss.labels_share * contrastive(Contrastive(temperature=loss.temperature)) if loss.labels else taught
    )


def _pairs(candidates_rc: Tensor, chosen_rc: Tensor) -> Tensor:
    """Return (row, passage) of the chosen candidates, sorted by row."""
    return torch.stack([chosen_rc.nonzero(as_tuple=True)[0], candidates_rc[chosen_rc]], dim=1)
