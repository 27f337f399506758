"""Retrieval: queries and their passages close together, in one vector space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.losses import Loss
from burnish.losses.contrastive import Contrastive, learn_scale, learned_scale
from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.losses.triplet import Triplet
from burnish.metrics import Metric
from burnish.models.cached import cached_vectors
from burnish.models.encode import Encoder, tokens_at_once
from burnish.models.topk import top_k
from burnish.prepare.pair_items import Ids, PairItem, pair_item, passages_of
from burnish.records import Pair, Record, raise_faults
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions
from burnish.text import normal

SHOWN = 100  # ranks that metrics may look at


@dataclass(frozen=True, slots=True)
class RetrieveBatch:
    """Queries, and the batch's unique passages.

    candidates_rc: (queries, candidates), each row's own passages as places among `passages`. positive_rc, negative_rc:
    the same shape, which of them are right and which wrong; neither where a row is padded. teacher_rc: the same shape,
    a teacher's scores. known: (any, 2), a query's place and that of a passage which is never wrong for it, positives
    included.
    """

    queries: list[Ids]
    passages: list[Ids]
    candidates_rc: Tensor
    positive_rc: Tensor
    negative_rc: Tensor
    teacher_rc: Tensor
    known: Tensor


class Retrieve(Task):
    """Bi-encoder retrieval, trained with in-batch and hard negatives; saved as a sentence-transformers folder."""

    record: ClassVar[type[Record]] = Pair

    loss: Loss = Contrastive()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("nDCG@10", "MRR@10", "Recall@1", "Recall@10"))), min_length=1
    )
    query_prefix: str | None = None  # put before every query, and saved with the model; None: the model's own
    passage_prefix: str | None = None
    query_tokens: int = 64
    passage_tokens: int = 128
    pass_tokens: int = Field(default=8192, ge=1)  # padded tokens whose activations are held; the numbers stay

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        """Check that the loss is one between queries and passages.

        Raises:
            RecipeError: it is another.
        """
        if not isinstance(self.loss, Contrastive | Triplet | MarginMse | Distill):
            raise RecipeError(
                f"the loss of retrieval is contrastive, triplet, margin_mse or distill, not {self.loss.kind}"
            )
        return self

    @property
    def divisible(self) -> bool:  # type: ignore[override]
        """Whether a batch may be cut: not where a query's negatives are the passages of the whole batch."""
        return not isinstance(self.loss, Contrastive)

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the encoder; a learned temperature is a new parameter of it."""
        encoder = Encoder.load(model, dtype=torch.float32)
        own = self.model_dump(include={"query_prefix", "passage_prefix", "query_tokens", "passage_tokens"})
        said = {name: value for name, value in own.items() if value is not None}
        encoder.format = encoder.format.model_copy(update=said)
        if isinstance(self.loss, Contrastive) and self.loss.learn == "temperature":
            return Built(encoder, encoder.tokenizer, fresh=learn_scale(encoder, self.loss.temperature))
        return Built(encoder, encoder.tokenizer)

    def encode(self, rows: Sequence[Pair], built: Built) -> Encoded:
        """Tokenize every different text once, with the model's prefixes before it.

        A passage that answers a query in any of the rows is in none of them a negative of this query.
        """
        encoder: Any = built.model
        form = encoder.format
        passages = passages_of(rows)
        queries, cut_queries = encoder.tokenize([form.query(row.query) for row in rows], max_tokens=form.query_tokens)
        read = [form.passage("", text) for text in passages]
        tokens, cut_passages = encoder.tokenize(read, max_tokens=form.passage_tokens)
        ids = {text: tuple(found) for text, found in zip(passages, tokens, strict=True)}
        answers = _answers(rows, queries, ids)
        items = [
            pair_item(row, tuple(query), ids, answers[tuple(query)]) for row, query in zip(rows, queries, strict=True)
        ]
        pairs = zip(rows, items, strict=True)
        notes = {
            "queries cut at the end": cut_queries,
            "passages cut at the end": cut_passages,
            "negatives left out, since they answer the query by another row or are the query itself": sum(
                ids[text] in item.known for row, item in pairs for text in row.negatives
            ),
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[PairItem]) -> RetrieveBatch:
        """List the batch's different passages once, and where among them each query's are."""
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
        known = [
            (row, place[text])
            for row, item in enumerate(items)
            for text in (*item.positives, *item.known)
            if text in place
        ]
        column_c = torch.arange(shape[1])
        return RetrieveBatch(
            queries=[item.query for item in items],
            passages=passages,
            candidates_rc=candidates_rc,
            positive_rc=column_c < right_rc,
            negative_rc=(column_c >= right_rc) & (column_c < there_rc),
            teacher_rc=teacher_rc,
            known=torch.tensor(known),
        )

    def count(self, batch: RetrieveBatch) -> int:
        """Count the queries."""
        return len(batch.queries)

    def total_loss(self, model: nn.Module, batch: RetrieveBatch) -> Tensor:
        """Return the loss summed over the queries."""
        encoder: Any = model
        device = next(model.parameters()).device

        def embed(texts: Sequence[Sequence[int]]) -> Tensor:
            vectors: Tensor = encoder.embed(texts, tokens_per_pass=self.pass_tokens)
            return vectors

        sides = [(embed, batch.queries), (embed, batch.passages)]
        at_once = tokens_at_once(model)
        queries, passages = cached_vectors(sides, pass_tokens=self.pass_tokens, at_once=at_once, device=device)
        candidates_rc, positive_rc = batch.candidates_rc.to(device), batch.positive_rc.to(device)
        negative_rc, teacher_rc = batch.negative_rc.to(device), batch.teacher_rc.to(device)
        if isinstance(self.loss, Contrastive):
            return self.loss.of_vectors(
                queries,
                passages,
                _pairs(candidates_rc, positive_rc),
                known=batch.known.to(device),
                negatives=_pairs(candidates_rc, negative_rc),
                scale=learned_scale(model),
            )
        scores_rc = torch.einsum("rw,rcw->rc", queries, passages[candidates_rc])
        if isinstance(self.loss, Triplet):
            return self.loss(scores_rc, positive_rc, negative_rc)
        if isinstance(self.loss, MarginMse):
            return self.loss(scores_rc, positive_rc, negative_rc, teacher_rc)
        assert isinstance(self.loss, Distill)
        return self.loss(scores_rc, positive_rc | negative_rc, teacher_rc)

    def audit(self, items: Sequence[PairItem], built: Built) -> list[str]:
        """Show one query, its first positive and its first negative as the towers read them, and a teacher's scores.

        Raises:
            DataError: rows lack the negatives or the teacher's scores that the loss needs.
        """
        self._require_what_the_loss_needs(items)
        decode = built.tokenizer.decode
        item = items[0]
        shown = {"query": item.query, "positive": item.positives[0]}
        if item.negatives:
            shown["negative"] = item.negatives[0]
        scores = [f"teacher's scores: {', '.join(f'{score:g}' for score in item.scores)}"] if item.scores else []
        return [*(f"{name}: {decode(ids)}" for name, ids in shown.items()), *scores]

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
        passages = passages_of(rows)
        vectors, _ = encoder.encode([form.passage("", text) for text in passages], max_tokens=form.passage_tokens)
        queries, _ = encoder.encode([form.query(row.query) for row in rows], max_tokens=form.query_tokens)
        _, best = top_k(queries, vectors, min(SHOWN, len(passages)))
        return [[passages[place] for place in row] for row in best.tolist()]

    def references(self, rows: Sequence[Pair]) -> list[Any]:
        """Return each query's positives with their grades."""
        return [row.graded for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:  # noqa: ARG002
        """Write a sentence-transformers folder."""
        encoder: Any = model
        encoder.save(folder)

    def _require_what_the_loss_needs(self, items: Sequence[PairItem]) -> None:
        """Check that every row has the negatives and the teacher's scores that the loss needs.

        Raises:
            DataError: rows lack them; each is named.
        """
        bad = []
        kind = self.loss.kind
        for item in items:
            if isinstance(self.loss, MarginMse | Distill) and not item.scores:
                bad.append(
                    f"row {item.id!r}: loss {kind} learns from a teacher's scores, and this row has none; "
                    "add `scores`, one for each positive and then each negative, or use contrastive"
                )
            if isinstance(self.loss, Triplet | MarginMse) and not item.negatives:
                bad.append(
                    f"row {item.id!r}: loss {kind} compares right passages with wrong ones, and this row has no "
                    "`negatives` beside its positives; add some, or use contrastive"
                )
            if isinstance(self.loss, Distill) and len(item.positives) + len(item.negatives) < 2:
                bad.append(
                    f"row {item.id!r}: loss {kind} compares a query's passages, and this row has one alone; add "
                    "`negatives`, or use contrastive"
                )
        raise_faults(bad)


def _answers(
    rows: Sequence[Pair], queries: Sequence[Sequence[int]], ids: Mapping[str, Ids]
) -> dict[Ids, dict[Ids, None]]:
    """Return what answers each query, in any row that asks it, and the passages that say the same as the query."""
    same: dict[str, list[Ids]] = {}
    for text, tokens in ids.items():
        same.setdefault(normal(text), []).append(tokens)
    found: dict[Ids, dict[Ids, None]] = {}
    for row, query in zip(rows, queries, strict=True):
        right = found.setdefault(tuple(query), {})
        right.update(dict.fromkeys([*(ids[text] for text in row.positives), *same.get(normal(row.query), ())]))
    return found


def _pairs(candidates_rc: Tensor, chosen_rc: Tensor) -> Tensor:
    """Return (row, passage) of the chosen candidates, sorted by row."""
    return torch.stack([chosen_rc.nonzero(as_tuple=True)[0], candidates_rc[chosen_rc]], dim=1)
