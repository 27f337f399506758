"""Vectors of passages whose encoder moves: they grow stale, and are made anew when that is due."""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from burnish.errors import RecipeError
from burnish.models.encode import Encoder
from burnish.spec import Spec


class Refresh(Spec):
    """When all passages are encoded anew, and whether a search looks further than the old vectors tell.

    every: steps. drift: 1 - the mean cosine of a sample's new vectors to their old ones, above which it is time; looked
    at every `look_every` steps and told in the log, by `sample` passages. rerank: so many are found by the old vectors,
    and those that are nearest by new ones are kept. None of them: vectors stay as they were before the first step.
    """

    every: int | None = Field(default=None, ge=1)
    drift: float | None = Field(default=None, gt=0, lt=2)
    rerank: int | None = Field(default=None, ge=2)
    look_every: int = Field(default=10, ge=1)
    sample: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _has_one_rule(self) -> "Refresh":
        """Check that one rule says when.

        Raises:
            RecipeError: two do.
        """
        if self.every and self.drift:
            raise RecipeError("refresh: `every` and `drift` both say when passages are encoded anew; keep one of them")
        return self


class Stale:
    """The vectors of passages as they were last encoded, (passages, width), and what the last step found of them.

    cosine: the sample's mean, where it was looked at. anew: whether all were encoded. moved: whether steps were made.
    """

    def __init__(self, vectors: Tensor, texts: Sequence[Sequence[int]], settings: Refresh) -> None:
        """Take the vectors, which are written into, and the token ids of each passage."""
        self.vectors = vectors
        self._texts = texts
        self._settings = settings
        random = np.random.Generator(np.random.PCG64(0))
        self._sample = np.sort(random.permutation(len(texts))[: settings.sample]).tolist()
        self.cosine: float | None = None
        self.anew = False
        self.moved = False

    def begin(self, step: int, encoder: Encoder) -> None:
        """Look and encode where this step, counted from 0, asks for it; before the first one nothing has moved."""
        settings = self._settings
        self.cosine = None
        self.moved = True
        if step and step % settings.look_every == 0:
            fresh = encoder.encode_ids([self._texts[place] for place in self._sample])
            self.cosine = (fresh * self.vectors[self._sample].cpu()).sum(dim=1).mean().item()
        drifted = settings.drift is not None and self.cosine is not None and 1 - self.cosine > settings.drift
        self.anew = drifted or bool(settings.every and step and step % settings.every == 0)
        if self.anew:
            self.vectors.copy_(encoder.encode_ids(self._texts))

    def ranked(self, queries: Tensor, places_rk: Tensor, encoder: Encoder) -> Tensor:
        """Return the same places, ordered by the passages' vectors as the encoder makes them now; best first.

        queries: (questions, width), on the processor. places_rk: (questions, passages).
        """
        unique, inverse = torch.unique(places_rk, return_inverse=True)
        fresh = encoder.encode_ids([self._texts[place] for place in unique.tolist()])
        scores_rk = torch.einsum("rw,rkw->rk", queries, fresh[inverse])
        return places_rk.gather(1, scores_rk.argsort(dim=1, descending=True, stable=True))
