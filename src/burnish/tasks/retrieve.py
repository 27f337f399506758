"""Retrieval: queries and their passages close together, in one vector space."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from burnish.errors import ModelError, RecipeError
from burnish.losses import Loss
from burnish.losses.contrastive import Contrastive, learn_scale, learned_scale
from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.losses.triplet import Triplet
from burnish.metrics import Metric
from burnish.models.cached import Side, cached_vectors
from burnish.models.encode import Encoder, tokens_at_once, tokens_held
from burnish.models.fixed import encode_fixed, fixed_of, keep_fixed
from burnish.models.key_queue import Queue, queue_of, start_queue
from burnish.models.matryoshka import require_dimensions
from burnish.models.pair_loss import PairBatch, pair_loss
from burnish.models.sentence_folder import Pooling
from burnish.models.topk import top_k
from burnish.models.towers import Towers, load_bi_encoder
from burnish.prepare.pair_batch import pair_batch
from burnish.prepare.pair_items import Ids, PairItem, passages_of
from burnish.prepare.stored_pairs import PairItems
from burnish.records import Pair, Record, raise_faults
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

SHOWN = 100  # ranks that metrics may look at


class Retrieve(Task):
    """Bi-encoder retrieval, trained with in-batch and hard negatives; saved as a sentence-transformers folder.

    passages "frozen": the passages of all rows are encoded once, and a step reads queries alone. With `contrastive` the
    negatives of a query are then all passages that are not known to answer it, and not those of its batch.
    """

    record: ClassVar[type[Record]] = Pair
    saves_merged: ClassVar[bool] = True

    loss: Loss = Contrastive()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("nDCG@10", "MRR@10", "Recall@1", "Recall@10"))), min_length=1
    )
    query_prefix: str | None = None  # put before every query, and saved with the model; None: the model's own
    passage_prefix: str | None = None
    query_tokens: int = 64
    passage_tokens: int = 128
    pooling: Pooling | None = None  # saved with the model; None: the model's own, the mean for a plain transformer
    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = ()  # first numbers of the vectors that are to do alone, too
    two_towers: bool = False  # an encoder of queries and one of passages, begun alike; a model that has two keeps them
    passages: Literal["trained", "frozen"] = "trained"  # frozen: that of two towers stands still
    queue: Queue | None = None  # passages of the last steps, as further negatives; their number alone does, 0 is none
    pass_tokens: int | None = Field(default=None, ge=1)  # padded, whose activations are held; None: what 4 GiB hold

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        """Check that the loss is one between queries and passages.

        Raises:
            RecipeError: it is another, or trains passages that are to stand still.
        """
        if not isinstance(self.loss, Contrastive | Triplet | MarginMse | Distill):
            raise RecipeError(
                f"the loss of retrieval is contrastive, triplet, margin_mse or distill, not {self.loss.kind}"
            )
        if self.passages == "frozen" and isinstance(self.loss, Contrastive):
            beside = [direction for direction in self.loss.directions if direction != "query_to_passage"]
            if beside:
                raise RecipeError(
                    f"passages: frozen has every passage for a negative of every query, and trains queries alone; "
                    f"leave {', '.join(beside)} out of the loss's directions"
                )
        return self

    @field_validator("queue", mode="before")
    @classmethod
    def _read_queue(cls, value: Any) -> Any:
        """Take a number for that of the passages."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"passages": value} if value else None
        return value

    @model_validator(mode="after")
    def _check_queue(self) -> Self:
        """Check that the loss has a place for further negatives.

        Raises:
            RecipeError: it has none, or has all there are already.
        """
        if self.queue is None:
            return self
        if not isinstance(self.loss, Contrastive):
            raise RecipeError(
                f"queue: its passages are further negatives of the loss contrastive; {self.loss.kind} compares a row's "
                "own passages, so leave the queue out"
            )
        if self.passages == "frozen":
            raise RecipeError("queue: with passages: frozen every passage is a negative already; leave the queue out")
        if "passage_to_passage" in self.loss.directions:
            raise RecipeError(
                "queue: its passages are negatives of queries; leave passage_to_passage out of the loss's directions, "
                "or the queue"
            )
        return self

    @model_validator(mode="after")
    def _check_dimensions(self) -> Self:
        """Check that no number of dimensions stands twice.

        Raises:
            RecipeError: one does, which would count twice.
        """
        twice = [count for count in {*self.dimensions} if self.dimensions.count(count) > 1]
        if twice:
            raise RecipeError(f"dimensions: {min(twice)} stands twice in {', '.join(map(str, self.dimensions))}")
        return self

    @property
    def divisible(self) -> bool:  # type: ignore[override]
        """Whether a batch may be cut: not where a query's negatives are the passages of the whole batch."""
        labels = isinstance(self.loss, Contrastive) or (isinstance(self.loss, Distill) and bool(self.loss.labels))
        return self.passages == "frozen" or not labels

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the encoder, or the one of queries and that of passages; a learned temperature is a new parameter.

        Raises:
            ModelError: its vectors have fewer numbers than are to do alone, or its one tower is to stand still.
        """
        encoder = load_bi_encoder(model, dtype=torch.float32)
        if self.two_towers and isinstance(encoder, Encoder):
            encoder = Towers.beginning_as(encoder)
        require_dimensions(self.dimensions, encoder.width, model)
        own = self.model_dump(include={"query_prefix", "passage_prefix", "query_tokens", "passage_tokens"})
        said = {name: value for name, value in own.items() if value is not None}
        encoder.read_by(encoder.format.model_copy(update=said))
        for tower in (encoder.queries, encoder.passages):
            tower.pooling = self.pooling or tower.pooling
        if self.passages == "frozen":
            if not isinstance(encoder, Towers):
                raise ModelError(
                    f"{model}: passages: frozen holds one of two towers still, and this model reads queries and "
                    "passages with one; add two_towers: true"
                )
            encoder.hold_passages()
        if isinstance(self.loss, Contrastive) and self.loss.learn == "temperature":
            return Built(encoder, encoder.queries.tokenizer, fresh=learn_scale(encoder, self.loss.temperature))
        return Built(encoder, encoder.queries.tokenizer)

    def encode(self, rows: Sequence[Pair], built: Built) -> Encoded:
        """Tokenize every different text once, with the model's prefixes before it.

        A passage that answers a query in any of the rows is in none of them a negative of this query.
        """
        encoder: Any = built.model
        form = encoder.format
        items = PairItems(
            rows,
            queries=lambda texts: encoder.queries.tokenize(
                [form.query(text) for text in texts], max_tokens=form.query_tokens
            )[0],
            passages=lambda texts: encoder.passages.tokenize(
                [form.passage("", text) for text in texts], max_tokens=form.passage_tokens
            )[0],
            repeated=True,
        )
        if self.passages == "frozen":
            items.count_queries_alone()
        notes = {
            "queries cut at the end": items.cut_queries,
            "passages cut at the end": items.cut_passages,
            "negatives left out, since they answer the query by another row or are the query itself": items.answered,
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def prepare(self, model: nn.Module, items: Sequence[PairItem], *, cache: Path, progress: Progress) -> list[str]:
        """Encode the passages of all rows, where they are frozen: those that no run before has encoded."""
        if self.passages == "trained":
            return []
        encoder: Any = model
        found, new = encode_fixed(
            encoder.passages.to(next(model.parameters()).device),
            partial(_passages, items),
            folder=cache / "passages",
            progress=partial(progress, "encoding passages"),
        )
        keep_fixed(model, found)
        return [f"passages that stand still: {len(found.vectors):,}, of which {new:,} are encoded for this run"]

    def begin(self, model: nn.Module) -> Sequence[Tensor]:
        """Begin the queue, if there is one, and return its state."""
        encoder: Any = model
        return start_queue(model, encoder.passages, self.queue).state if self.queue else ()

    def after_step(self, model: nn.Module, batches: Sequence[PairBatch]) -> None:
        """Take the step's passages into the queue."""
        encoder: Any = model
        if self.queue:
            queue_of(model).follow(encoder.passages, [text for batch in batches for text in batch.passages])

    def collate(self, items: Sequence[PairItem]) -> PairBatch:
        """List the batch's different passages once, and where among them each query's are."""
        return pair_batch(items)

    def count(self, batch: PairBatch) -> int:
        """Count the queries."""
        return len(batch.queries)

    def total_loss(self, model: nn.Module, batch: PairBatch) -> Tensor:
        """Return the loss summed over the queries."""
        encoder: Any = model
        if self.passages == "frozen":
            [queries], fixed = self._vectors(model, (encoder.queries, batch.queries)), fixed_of(model)
            passages, batch = fixed.vectors, fixed.among(batch)
        else:
            sides = (encoder.queries, batch.queries), (encoder.passages, batch.passages)
            queries, passages = self._vectors(model, *sides)
            if self.queue:
                passages, batch = queue_of(model).behind(passages, batch)
        scale = learned_scale(model)
        return pair_loss(self.loss, queries, passages, batch, dimensions=self.dimensions, scale=scale)

    def audit(self, items: Sequence[PairItem], built: Built) -> list[str]:
        """Show one query, its first positive and its first negative as the towers read them, and a teacher's scores.

        Raises:
            DataError: rows lack the negatives or the teacher's scores that the loss needs.
        """
        self._require_what_the_loss_needs(items)
        encoder: Any = built.model
        item, passages = items[0], encoder.passages.tokenizer
        shown = [("query", encoder.queries.tokenizer, item.query), ("positive", passages, item.positives[0])]
        shown += [("negative", passages, text) for text in item.negatives[:1]]
        scores = [f"teacher's scores: {', '.join(f'{score:g}' for score in item.scores)}"] if item.scores else []
        return [*(f"{name}: {tokenizer.decode(ids)}" for name, tokenizer, ids in shown), *scores]

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
        read = [form.passage("", text) for text in passages]
        vectors, _ = encoder.passages.encode(read, max_tokens=form.passage_tokens)
        queries, _ = encoder.queries.encode([form.query(row.query) for row in rows], max_tokens=form.query_tokens)
        _, best = top_k(queries, vectors, min(SHOWN, len(passages)))
        return [[passages[place] for place in row] for row in best.tolist()]

    def references(self, rows: Sequence[Pair]) -> list[Any]:
        """Return each query's positives with their grades."""
        return [row.graded for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:  # noqa: ARG002
        """Write a sentence-transformers folder; of two towers, with its Router."""
        encoder: Any = model
        encoder.save(folder)

    def _vectors(self, model: nn.Module, *sides: tuple[Encoder, Sequence[Sequence[int]]]) -> list[Tensor]:
        """Return the vectors of each tower's texts."""
        held = self.pass_tokens or min(tokens_held(tower.transformer) for tower, _ in sides)
        return cached_vectors(
            [
                Side(
                    partial(tower.embed, tokens_per_pass=held),
                    texts,
                    moves=any(weight.requires_grad for weight in tower.parameters()),
                )
                for tower, texts in sides
            ],
            pass_tokens=held,
            at_once=tokens_at_once(model),
            device=next(model.parameters()).device,
        )

    def _require_what_the_loss_needs(self, items: Sequence[PairItem]) -> None:
        """Check that every row has the negatives and the teacher's scores that the loss needs.

        Raises:
            DataError: rows lack them; each is named.
        """
        if isinstance(self.loss, Contrastive):
            return
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


def _passages(items: Sequence[PairItem]) -> Iterator[Ids]:
    """Yield what stands in the rows, and what answers their queries."""
    for item in items:
        yield from (*item.positives, *item.negatives, *item.known)
