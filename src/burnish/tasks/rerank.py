"""Re-ranking: query and passage read together, and a score for the two."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import DataError, RecipeError
from burnish.losses import Loss
from burnish.losses.binary import Binary
from burnish.losses.distill import Distill
from burnish.losses.listwise import Listwise
from burnish.losses.margin_mse import MarginMse
from burnish.metrics import Metric
from burnish.models.cross import CrossEncoder, TokenPair, pair_scores
from burnish.records import Pair, Record, raise_faults
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions
from burnish.text import TextFormat

FORM = TextFormat()  # a re-ranker has no prefixes


class Counts(NamedTuple):
    """How many right and how many wrong passages the training rows have."""

    positives: int
    negatives: int


@dataclass(frozen=True, slots=True)
class RerankItem:
    """A query with each of its passages, tokenized: the first `positives` of them are right.

    teacher: a teacher's score of each passage, or empty. counts: of all rows that were encoded with it.
    """

    id: str
    pairs: tuple[TokenPair, ...]
    positives: int
    teacher: tuple[float, ...]
    counts: Counts

    @property
    def tokens(self) -> int:
        """Tokens of all pairs."""
        return sum(len(pair.ids) for pair in self.pairs)

    @property
    def negatives(self) -> int:
        """How many passages are wrong."""
        return len(self.pairs) - self.positives


@dataclass(frozen=True, slots=True)
class RerankBatch:
    """Pairs, query by query, and what is known of them, (queries, most passages of a query).

    there_rc: false where a query has fewer passages; the pairs are the true places, row by row. teacher_rc: 0 where
    nothing is said. weight: (1,), of a right passage in `binary`.
    """

    pairs: list[TokenPair]
    there_rc: Tensor
    positive_rc: Tensor
    teacher_rc: Tensor
    weight: Tensor | None


class Rerank(Task):
    """Cross-encoder re-ranking, trained on a query's own passages; saved as a sentence-transformers CrossEncoder.

    The loss is `binary`, a mean over pairs, or one over queries: `listwise`, and by a teacher's scores `margin_mse` and
    `distill`. Metrics rank each row's own passages.
    """

    record: ClassVar[type[Record]] = Pair
    saves_merged: ClassVar[bool] = True

    loss: Loss = Binary()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("nDCG@10", "MRR@10"))), min_length=1
    )
    max_tokens: int = Field(default=256, ge=8)  # of query and passage together; what is longer is cut, and counted
    pass_tokens: int = Field(default=8192, ge=1)  # padded tokens that one forward pass holds; the numbers stay

    @model_validator(mode="after")
    def _scores_pairs(self) -> "Rerank":
        """Check that the loss is one for the scores of a query's own passages.

        Raises:
            RecipeError: it is another, or has more than one weight.
        """
        if not isinstance(self.loss, Binary | Listwise | MarginMse | Distill):
            raise RecipeError(
                f"the loss of a re-ranker is binary, listwise, margin_mse or distill, not {self.loss.kind}"
            )
        if isinstance(self.loss, Distill) and self.loss.labels:
            raise RecipeError("distill.labels: a re-ranker reads a query's own passages alone; leave it out")
        asked = self.loss.positive_weights if isinstance(self.loss, Binary) else "none"
        if isinstance(asked, tuple) and len(asked) != 1:
            raise RecipeError(f"a passage is right or wrong, so positive_weights are one number, not {len(asked)}")
        return self

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a head of one output, new or trained."""
        cross = CrossEncoder.load(model, dtype=torch.float32, seed=seed)
        return Built(cross.network, cross.tokenizer, fresh=cross.fresh)

    def encode(self, rows: Sequence[Pair], built: Built) -> Encoded:
        """Tokenize each row's pairs; rows that the loss cannot learn from are left out, and counted.

        Raises:
            DataError: the loss reads a teacher's scores, and rows have none; each such row is named.
        """
        if self._taught:
            raise_faults(
                [
                    f"row {row.id!r}: loss {self.loss.kind} learns a teacher's scores, and the row has no `scores`"
                    for row in rows
                    if not row.scores
                ]
            )
        pairs = [
            (FORM.query(row.query), FORM.passage("", text)) for row in rows for text in (*row.positives, *row.negatives)
        ]
        tokens, cut = self._cross(built.model, built).tokenize(pairs)
        items, first = [], 0
        for row in rows:
            last = first + len(row.positives) + len(row.negatives)
            items.append(_item(row, tokens[first:last]))
            first = last
        kept = [item for item in items if self._learns_from(item)]
        counts = Counts(sum(item.positives for item in kept), sum(item.negatives for item in kept))
        bare = sum(not item.negatives for item in items)
        notes = {
            f"pairs cut at {self.max_tokens} tokens": cut,
            "passages that read like another of their row": len(tokens) - sum(len(item.pairs) for item in items),
            "rows without negatives" + ("" if len(kept) == len(items) else ", not trained on"): bare,
        }
        found = [replace(item, counts=counts) for item in kept]
        return Encoded(found, {reason: count for reason, count in notes.items() if count})

    def joined(self, ours: Sequence[RerankItem], rehearsed: Sequence[RerankItem]) -> list[RerankItem]:
        """Return all items with the counts of all rows: the weight of a right passage is the same in every batch."""
        if not ours or not rehearsed:
            return [*ours, *rehearsed]
        counts = Counts(*(sum(part) for part in zip(ours[0].counts, rehearsed[0].counts, strict=True)))
        return [replace(item, counts=counts) for item in (*ours, *rehearsed)]

    def collate(self, items: Sequence[RerankItem]) -> RerankBatch:
        """List the pairs query by query, and mark which place of the grid each has."""
        width = max(len(item.pairs) for item in items)
        there_rc, positive_rc = torch.zeros(2, len(items), width, dtype=torch.bool)
        teacher_rc = torch.zeros(len(items), width)
        for row, item in enumerate(items):
            there_rc[row, : len(item.pairs)] = True
            positive_rc[row, : item.positives] = True
            teacher_rc[row, : len(item.teacher)] = torch.tensor(item.teacher)
        pairs = [pair for item in items for pair in item.pairs]
        return RerankBatch(pairs, there_rc, positive_rc, teacher_rc, self._weight(items[0].counts))

    def count(self, batch: RerankBatch) -> int:
        """Count the pairs where each stands for itself (`binary`), else the queries."""
        return len(batch.pairs) if isinstance(self.loss, Binary) else len(batch.there_rc)

    def total_loss(self, model: nn.Module, batch: RerankBatch) -> Tensor:
        """Return the loss summed over pairs or queries, as `count` counts them."""
        scores = pair_scores(model, batch.pairs, tokens_per_pass=self.pass_tokens)
        there_rc, positive_rc, teacher_rc = (
            part.to(scores.device) for part in (batch.there_rc, batch.positive_rc, batch.teacher_rc)
        )
        if isinstance(self.loss, Binary):
            weights = None if batch.weight is None else batch.weight.to(scores.device)
            return self.loss(scores[:, None], positive_rc[there_rc][:, None], weights=weights)
        scores_rc = scores.new_zeros(there_rc.shape)
        scores_rc[there_rc] = scores
        negative_rc = there_rc & ~positive_rc
        if isinstance(self.loss, Listwise):
            return self.loss(scores_rc, positive_rc, negative_rc)
        if isinstance(self.loss, MarginMse):
            return self.loss(scores_rc, positive_rc, negative_rc, teacher_rc)
        assert isinstance(self.loss, Distill)
        return self.loss(scores_rc, there_rc, teacher_rc)

    def audit(self, items: Sequence[RerankItem], built: Built) -> list[str]:
        """Show one query with its first positive and its first negative, as the network reads them.

        Raises:
            DataError: no row has a negative: all that could be learned is to call everything right.
        """
        shown = next((item for item in items if item.negatives), None)
        if shown is None:
            raise DataError(
                "no training row has negatives, and a re-ranker learns to tell right passages from wrong ones; "
                "find some with a retriever"
            )
        decode = built.tokenizer.decode
        lines = [
            f"positive: {decode(shown.pairs[0].ids)}",
            f"negative: {decode(shown.pairs[shown.positives].ids)}",
            f"{shown.counts.positives} right and {shown.counts.negatives} wrong passages",
        ]
        weight = self._weight(shown.counts)
        return lines if weight is None else [*lines, f"a right passage weighs {weight.item():.3g}"]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Pair], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return each row's own passages, best first; a passage is named by its text.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "answers":
            refuse_predictions(self, reads)
        passages = [list(dict.fromkeys((*row.positives, *row.negatives))) for row in rows]
        pairs = [
            (FORM.query(row.query), FORM.passage("", text))
            for row, texts in zip(rows, passages, strict=True)
            for text in texts
        ]
        scores = iter(self._cross(model, built).score(pairs, progress=lambda *done: progress("re-ranking", *done)))
        scored = [[(next(scores), text) for text in texts] for texts in passages]
        return [[text for _, text in sorted(found, reverse=True)] for found in scored]

    def references(self, rows: Sequence[Pair]) -> list[Any]:
        """Return each query's positives with their grades."""
        return [row.graded for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a CrossEncoder's folder, or an adapter's where the method cannot be merged."""
        self._cross(model, built).save(folder)

    def _cross(self, model: nn.Module, built: Built) -> CrossEncoder:
        return CrossEncoder(model, built.tokenizer, max_tokens=self.max_tokens)

    @property
    def _taught(self) -> bool:
        return isinstance(self.loss, MarginMse | Distill)

    def _learns_from(self, item: RerankItem) -> bool:
        """Tell whether the loss of a row can be anything but 0."""
        if isinstance(self.loss, Distill):
            return len(item.pairs) > 1
        return isinstance(self.loss, Binary) or item.negatives > 0

    def _weight(self, counts: Counts) -> Tensor | None:
        """Return (1,), how much a right passage weighs; balanced, right and wrong ones weigh alike."""
        if not isinstance(self.loss, Binary) or self.loss.positive_weights == "none":
            return None
        if self.loss.positive_weights == "balanced":
            return torch.tensor([max(counts.negatives, 1) / max(counts.positives, 1)])
        return torch.tensor(self.loss.positive_weights)


def _item(row: Pair, tokens: Sequence[TokenPair]) -> RerankItem:
    """Return a row's item; what reads like an earlier passage of the row is the same, and positives come first."""
    first: dict[TokenPair, int] = {}
    for place, pair in enumerate(tokens):
        first.setdefault(pair, place)
    teacher = tuple(row.scores[place] for place in first.values()) if row.scores else ()
    return RerankItem(
        id=row.id,
        pairs=tuple(first),
        positives=sum(place < len(row.positives) for place in first.values()),
        teacher=teacher,
        counts=Counts(0, 0),
    )
