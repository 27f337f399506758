"""Passages of the last steps as further negatives: a queue of vectors from an encoder that follows slowly."""

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.losses.contrastive import joined
from burnish.models.encode import Encoder
from burnish.models.pair_loss import PairBatch
from burnish.models.start import exchanged
from burnish.models.token_ids import ids_key
from burnish.spec import Spec

Ids = Sequence[int]


class Queue(Spec):
    """How many passages the queue holds, and how slowly their encoder follows.

    momentum: share that the copy keeps of itself at a step; 0.999 was the best of the five that He et al. tried.
    """

    passages: int = Field(ge=1)
    momentum: float = Field(default=0.999, ge=0, lt=1)


class KeyQueue:
    """The passages of the last steps, as vectors that no gradient reaches: negatives of every query.

    Source: momentum contrast (MoCo, He et al. 2020, arXiv 1911.05722), and for retrieval Contriever (Izacard et al.
    2022, arXiv 2112.09118). After each step every trained weight of the copy becomes momentum · itself + (1 - momentum)
    · the encoder's, and the copy reads the step's passages without dropout; the oldest leave the queue for them. The
    passages of the batch itself stay as they are without a queue: vectors of the encoder, with gradients both ways.
    """

    def __init__(self, encoder: Encoder, settings: Queue) -> None:
        """Begin empty, with a copy that is the encoder of passages; its frozen weights need none.

        Raises:
            RecipeError: several processes train, each of which would fill another queue.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            processes = torch.distributed.get_world_size()
            if processes > 1:
                raise RecipeError(
                    f"task.queue: {processes} processes train, and each would fill a queue with the passages of its "
                    "own rows; train in one process, or leave the queue out"
                )
        self._momentum = settings.momentum
        self._weights = [weight for weight in encoder.transformer.parameters() if weight.requires_grad]
        self._slow = [weight.detach().float().clone() for weight in self._weights]
        device = next(encoder.transformer.parameters()).device
        self._vectors = torch.zeros(settings.passages, encoder.width, device=device)
        self._keys = torch.zeros(settings.passages, dtype=torch.long)  # of the token ids
        self._met = torch.zeros((), dtype=torch.long)  # passages since the first step

    @property
    def state(self) -> list[Tensor]:
        """All that changes with the steps; a run that goes on writes into it."""
        return [*self._slow, self._vectors, self._keys, self._met]

    def behind(self, passages: Tensor, batch: PairBatch) -> tuple[Tensor, PairBatch]:
        """Return the batch's passages (passages, width) with the queue's behind them, and the batch that knows these.

        What is never wrong for a query is not in the queue either, by its token ids.
        """
        filled = min(int(self._met), len(self._keys))
        right = [(query, batch.passages[place]) for query, place in batch.known.tolist()] + [*batch.elsewhere]
        queries = torch.tensor([query for query, _ in right])
        waiting = torch.stack([self._keys[:filled], torch.arange(filled)], dim=1)
        found, slots = joined(torch.tensor([_number(text) for _, text in right]), waiting).T
        further = torch.stack([queries[found], len(batch.passages) + slots], dim=1)
        known = torch.cat([batch.known, further])
        return torch.cat([passages, self._vectors[:filled]]), replace(batch, known=known)

    @torch.no_grad()
    def follow(self, encoder: Encoder, passages: Sequence[Ids]) -> None:
        """Move the copy towards the encoder, and take in the passages of a step; of too many, the last."""
        for slow, weight in zip(self._slow, self._weights, strict=True):
            slow.lerp_(weight.float(), 1 - self._momentum)
        recent = passages[-len(self._keys) :]
        values = [slow.to(weight.dtype) for slow, weight in zip(self._slow, self._weights, strict=True)]
        with exchanged(self._weights, values):
            vectors = encoder.encode_ids(recent)
        slots = (self._met + torch.arange(len(recent))) % len(self._keys)
        self._vectors[slots] = vectors.to(self._vectors.device)
        self._keys[slots] = torch.tensor([_number(text) for text in recent], dtype=torch.long)
        self._met += len(recent)


def start_queue(model: nn.Module, encoder: Encoder, settings: Queue) -> KeyQueue:
    """Begin a queue beside a model, whose passages the encoder reads; nothing of it is saved with the model."""
    _queues[model] = KeyQueue(encoder, settings)
    return _queues[model]


def queue_of(model: nn.Module) -> KeyQueue:
    """Return the queue that was begun beside a model."""
    return _queues[model]


_queues: WeakKeyDictionary[nn.Module, KeyQueue] = WeakKeyDictionary()


def _number(ids: Ids) -> int:
    """Return 64 bits that name a text by its token ids."""
    return int.from_bytes(ids_key(ids)[:8], "little", signed=True)
