"""Tokenized pairs as one batch: each passage once, and which query each belongs to."""

from collections.abc import Sequence

import torch

from burnish.models.pair_loss import PairBatch
from burnish.prepare.pair_items import PairItem


def pair_batch(items: Sequence[PairItem]) -> PairBatch:
    """List the different passages of the items once, and where among them each query's are."""
    passages = list(dict.fromkeys(text for item in items for text in (*item.positives, *item.negatives)))
    place = {text: number for number, text in enumerate(passages)}
    shape = (len(items), max(len(item.positives) + len(item.negatives) for item in items))
    candidates_rc = torch.zeros(shape, dtype=torch.long)
    right_rc = torch.tensor([[len(item.positives)] for item in items])
    there_rc = torch.tensor([[len(item.positives) + len(item.negatives)] for item in items])
    teacher_rc = torch.zeros(shape)
    for row, item in enumerate(items):
        own = [place[text] for text in (*item.positives, *item.negatives)]
        candidates_rc[row, : len(own)] = torch.tensor(own)
        teacher_rc[row, : len(item.scores)] = torch.tensor(item.scores)
    right = [(row, text) for row, item in enumerate(items) for text in (*item.positives, *item.known)]
    column_c = torch.arange(shape[1])
    return PairBatch(
        queries=[item.query for item in items],
        passages=passages,
        candidates_rc=candidates_rc,
        positive_rc=column_c < right_rc,
        negative_rc=(column_c >= right_rc) & (column_c < there_rc),
        teacher_rc=teacher_rc,
        known=torch.tensor([(row, place[text]) for row, text in right if text in place]),
        elsewhere=[(row, text) for row, text in right if text not in place],
    )
