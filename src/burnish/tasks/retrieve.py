"""Retrieval: queries and their passages close together, in one vector space."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.losses import Loss
from burnish.losses.contrastive import Contrastive
from burnish.metrics import Metric
from burnish.models.encode import Encoder
from burnish.models.topk import top_k
from burnish.records import Pair, Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

SHOWN = 100  # ranks that metrics may look at


@dataclass(frozen=True, slots=True)
class RetrieveItem:
    """A query with its passages, tokenized; a passage is known by its token ids."""

    id: str
    tokens: int
    query: tuple[int, ...]
    positives: tuple[tuple[int, ...], ...]
    negatives: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class RetrieveBatch:
    """Queries, and the batch's unique passages; positive_qd is true where a passage is a positive of the query."""

    queries: list[tuple[int, ...]]
    passages: list[tuple[int, ...]]
    positive_qd: Tensor


class Retrieve(Task):
    """Bi-encoder retrieval, trained with in-batch and hard negatives; saved as a sentence-transformers folder."""

    record: ClassVar[type[Record]] = Pair
    divisible: ClassVar[bool] = False  # a query's negatives are the passages of the whole batch

    loss: Loss = Contrastive()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("nDCG@10", "MRR@10", "Recall@1", "Recall@10"))), min_length=1
    )
    query_prefix: str | None = None  # put before every query, and saved with the model; None: the model's own
    passage_prefix: str | None = None
    query_tokens: int = 64
    passage_tokens: int = 128
    pass_tokens: int = 8192  # padded tokens that one forward pass holds; the numbers do not depend on it

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the encoder; a learned temperature is a new parameter of it."""
        encoder = Encoder.load(model, dtype=torch.float32)
        own = self.model_dump(include={"query_prefix", "passage_prefix", "query_tokens", "passage_tokens"})
        said = {name: value for name, value in own.items() if value is not None}
        encoder.format = encoder.format.model_copy(update=said)
        if isinstance(self.loss, Contrastive) and self.loss.learn == "temperature":
            encoder.register_parameter("log_scale", nn.Parameter(torch.tensor(1 / self.loss.temperature).log()))
            return Built(encoder, encoder.tokenizer, fresh=("log_scale",))
        return Built(encoder, encoder.tokenizer)

    def encode(self, rows: Sequence[Pair], built: Built) -> Encoded:
        """Tokenize every different text once, with the model's prefixes before it."""
        encoder: Any = built.model
        form = encoder.format
        passages = list(dict.fromkeys(text for row in rows for text in (*row.positives, *row.negatives)))
        queries, cut_queries = encoder.tokenize([form.query(row.query) for row in rows], max_tokens=form.query_tokens)
        read = [form.passage("", text) for text in passages]
        tokens, cut_passages = encoder.tokenize(read, max_tokens=form.passage_tokens)
        ids = {text: tuple(found) for text, found in zip(passages, tokens, strict=True)}
        items = []
        for row, query in zip(rows, queries, strict=True):
            positives = tuple(dict.fromkeys(ids[text] for text in row.positives))
            negatives = tuple(dict.fromkeys(ids[text] for text in row.negatives if ids[text] not in positives))
            size = len(query) + sum(map(len, positives + negatives))
            items.append(RetrieveItem(row.id, size, tuple(query), positives, negatives))
        notes = {"queries cut at the end": cut_queries, "passages cut at the end": cut_passages}
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[RetrieveItem]) -> RetrieveBatch:
        """List the batch's different passages once, and mark each query's positives among them."""
        passages = list(dict.fromkeys(text for item in items for text in (*item.positives, *item.negatives)))
        place = {text: number for number, text in enumerate(passages)}
        positive_qd = torch.zeros(len(items), len(passages), dtype=torch.bool)
        for row, item in enumerate(items):
            positive_qd[row, [place[text] for text in item.positives]] = True
        return RetrieveBatch([item.query for item in items], passages, positive_qd)

    def count(self, batch: RetrieveBatch) -> int:
        """Count the queries."""
        return len(batch.queries)

    def total_loss(self, model: nn.Module, batch: RetrieveBatch) -> Tensor:
        """Return the loss summed over the queries."""
        encoder: Any = model
        queries = encoder.embed(batch.queries, tokens_per_pass=self.pass_tokens)
        passages = encoder.embed(batch.passages, tokens_per_pass=self.pass_tokens)
        scores_qd = queries @ passages.T
        loss: Any = self.loss
        names = dict(model.named_parameters())  # a method may have wrapped the model
        scale = next((weight for name, weight in names.items() if name.split(".")[-1] == "log_scale"), None)
        extra = {} if scale is None else {"scale": scale.float().exp()}
        total: Tensor = loss(scores_qd, batch.positive_qd.to(scores_qd.device), **extra)
        return total

    def audit(self, items: Sequence[RetrieveItem], built: Built) -> list[str]:
        """Show one query, its first positive and its first negative as the towers read them."""
        decode = built.tokenizer.decode
        item = items[0]
        shown = {"query": item.query, "positive": item.positives[0]}
        if item.negatives:
            shown["negative"] = item.negatives[0]
        return [f"{name}: {decode(ids)}" for name, ids in shown.items()]

    def predictions(
        self,
        model: nn.Module,
        built: Built,  # noqa: ARG002
        rows: Sequence[Pair],
        *,
        reads: str,
        progress: Progress,
    ) -> list[Any]:
        """Return the first passages for each query, of all that the rows hold; a passage is named by its text.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "answers":
            refuse_predictions(self, reads)
        progress("searching", 0, 1)
        encoder: Any = model
        form = encoder.format
        passages = list(dict.fromkeys(text for row in rows for text in (*row.positives, *row.negatives)))
        vectors, _ = encoder.encode([form.passage("", text) for text in passages], max_tokens=form.passage_tokens)
        queries, _ = encoder.encode([form.query(row.query) for row in rows], max_tokens=form.query_tokens)
        _, best = top_k(queries, vectors, min(SHOWN, len(passages)))
        return [[passages[place] for place in row] for row in best.tolist()]

    def references(self, rows: Sequence[Pair]) -> list[Any]:
        """Return each query's positives with their grade, 1."""
        return [dict.fromkeys(row.positives, 1) for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:  # noqa: ARG002
        """Write a sentence-transformers folder."""
        encoder: Any = model
        encoder.save(folder)
