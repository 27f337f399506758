"""Late interaction: queries and passages as one vector a token, compared token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from burnish.errors import ModelError, RecipeError
from burnish.losses import Loss
from burnish.losses.contrastive import Contrastive, learn_scale, learned_scale
from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.metrics import Metric
from burnish.models.late import PROJECTION, PUNCTUATION, LateEncoder
from burnish.models.late_folder import LateFormat
from burnish.models.maxsim import Packed, maxsim
from burnish.prepare.pair_items import Ids, PairItem, passages_of
from burnish.prepare.stored_pairs import PairItems
from burnish.records import Pair, Record, raise_faults
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

DIRECTIONS = ("query_to_passage", "passage_to_query")  # of `contrastive`, that need scores alone
SHOWN = 100  # ranks that metrics may look at
QUERIES = 64  # queries scored at a time


@dataclass(frozen=True, slots=True)
class LateBatch:
    """Queries, and the batch's unique passages; what is known of each pair, (queries, passages).

    positive_qd, negative_qd: the query's own right and wrong passages. known_qd: passages that are never wrong for it,
    positives included. teacher_qd: a teacher's scores of its own passages, 0 elsewhere.
    """

    queries: list[Ids]
    passages: list[Ids]
    positive_qd: Tensor
    negative_qd: Tensor
    known_qd: Tensor
    teacher_qd: Tensor


class Late(Task):
    """Late-interaction retrieval (ColBERT), with in-batch and hard negatives; saved for sentence-transformers.

    Khattab & Zaharia 2020 (arXiv 2004.12832) and Santhanam et al. 2021 (arXiv 2112.01488). The score of a passage is
    the sum, over the query's tokens, of the cosine to the passage's nearest token (`models/maxsim.py`). Such a sum
    spans as many units as the query has tokens, where a bi-encoder's cosine spans one or two: `contrastive` and
    `distill` take it as it is, at temperature 1 where none is said, as PyLate and sentence-transformers do, and not at
    a cosine's 0.05.

    width: of a fresh projection, for an encoder that has none; null trains the token vectors as they are. A saved
    late-interaction model keeps its own, and the recipe must name its width.
    """

    record: ClassVar[type[Record]] = Pair
    saves_merged: ClassVar[bool] = True

    loss: Loss = Contrastive(temperature=1.0)
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("nDCG@10", "MRR@10", "Recall@1", "Recall@10"))), min_length=1
    )
    width: int | None = Field(default=128, ge=1)
    query_prefix: str | None = None  # or a marker, such as "[unused0] ", saved with the model; None: the model's own
    passage_prefix: str | None = None
    query_tokens: int = 64
    passage_tokens: int = 128
    skip_punctuation: bool | None = None  # of passages; None: the model's own, and no for a new one: code needs it
    expand_to: int | None = Field(default=None, ge=0)  # fill queries up with mask tokens; None: the model's own, or not
    pass_tokens: int = 8192  # padded tokens that one forward pass holds; the numbers do not depend on it

    @model_validator(mode="before")
    @classmethod
    def _temperature_of_sums(cls, settings: Any) -> Any:
        """Give a loss that has a temperature the one of sums, where none is said."""
        loss = settings.get("loss") if isinstance(settings, dict) else None
        loss = {"kind": loss} if isinstance(loss, str) else loss
        if isinstance(loss, dict) and loss.get("kind") in ("contrastive", "distill"):
            return {**settings, "loss": {"temperature": 1.0, **loss}}
        return settings

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        """Check that the loss is one for the scores of passages.

        Raises:
            RecipeError: it is another, or needs one vector a text.
        """
        if not isinstance(self.loss, Contrastive | MarginMse | Distill):
            raise RecipeError(
                f"the loss of late interaction is contrastive, margin_mse or distill, not {self.loss.kind}"
            )
        needs = [] if not isinstance(self.loss, Contrastive) else {*self.loss.directions} - set(DIRECTIONS)
        if needs:
            raise RecipeError(
                f"{sorted(needs)[0]} needs one vector a text; late interaction knows {', '.join(DIRECTIONS)}"
            )
        return self

    @property
    def divisible(self) -> bool:  # type: ignore[override]
        """Whether a batch may be cut: not where a query's negatives are the passages of the whole batch."""
        return not isinstance(self.loss, Contrastive) and not (isinstance(self.loss, Distill) and self.loss.labels)

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the encoder, with its own projection or a fresh one; a learned temperature is a new parameter.

        Raises:
            ModelError: the model is a late-interaction model of another width, or fills queries up too far.
        """
        encoder = LateEncoder.load(model, dtype=torch.float32)
        fresh: tuple[str, ...] = ()
        if encoder.saved:
            self._require_width(model, encoder)
        elif self.width is not None:
            encoder.project(self.width, seed=seed)
            fresh = (f"{PROJECTION}.",)
        encoder.read_by(self._format(model, encoder.format))
        if isinstance(self.loss, Contrastive) and self.loss.learn == "temperature":
            fresh += learn_scale(encoder, self.loss.temperature)
        return Built(encoder, encoder.tokenizer, fresh=fresh)

    def encode(self, rows: Sequence[Pair], built: Built) -> Encoded:
        """Tokenize every different text once, with the model's prefixes before it."""
        late: Any = built.model
        form, encoder = late.format, late.encoder
        items = PairItems(
            rows,
            queries=lambda texts: encoder.tokenize([*map(form.query, texts)], max_tokens=form.query_tokens)[0],
            passages=lambda texts: encoder.tokenize(
                [form.passage("", text) for text in texts], max_tokens=form.passage_tokens
            )[0],
            compared=lambda ids: any(late.passage_rows([ids])[0].compared),
        )
        notes = {
            "queries cut at the end": items.cut_queries,
            "passages cut at the end": items.cut_passages,
            "rows left out, whose positives have no token to compare": items.bare,
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[PairItem]) -> LateBatch:
        """List the batch's different passages once, and mark among them what is known of each query's."""
        passages = list(dict.fromkeys(text for item in items for text in (*item.positives, *item.negatives)))
        place = {text: number for number, text in enumerate(passages)}
        shape = (len(items), len(passages))
        positive_qd, negative_qd, known_qd = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
        teacher_qd = torch.zeros(shape)
        for row, item in enumerate(items):
            own = [place[text] for text in (*item.positives, *item.negatives)]
            positive_qd[row, own[: len(item.positives)]] = True
            negative_qd[row, own[len(item.positives) :]] = True
            known_qd[row, [place[text] for text in (*item.positives, *item.known) if text in place]] = True
            teacher_qd[row, own[: len(item.scores)]] = torch.tensor(item.scores)
        return LateBatch([item.query for item in items], passages, positive_qd, negative_qd, known_qd, teacher_qd)

    def count(self, batch: LateBatch) -> int:
        """Count the queries."""
        return len(batch.queries)

    def total_loss(self, model: nn.Module, batch: LateBatch) -> Tensor:
        """Return the loss summed over the queries."""
        late: Any = model
        queries = late.embed(late.query_rows(batch.queries), tokens_per_pass=self.pass_tokens)
        passages = late.embed(late.passage_rows(batch.passages), tokens_per_pass=self.pass_tokens)
        scores_qd = maxsim(queries, passages)
        positive_qd, negative_qd = batch.positive_qd.to(scores_qd.device), batch.negative_qd.to(scores_qd.device)
        if isinstance(self.loss, Contrastive):
            known_qd, scale = batch.known_qd.to(scores_qd.device), learned_scale(model)
            return self.loss(scores_qd, positive_qd, known_qd=known_qd, scale=scale)
        teacher_qd = batch.teacher_qd.to(scores_qd.device)
        if isinstance(self.loss, MarginMse):
            return self.loss(scores_qd, positive_qd, negative_qd, teacher_qd)
        assert isinstance(self.loss, Distill)
        taught = self.loss(scores_qd, positive_qd | negative_qd, teacher_qd)
        if not self.loss.labels:
            return taught
        named = Contrastive(temperature=self.loss.temperature)
        return taught + self.loss.labels_share * named(
            scores_qd, positive_qd, known_qd=batch.known_qd.to(scores_qd.device)
        )

    def audit(self, items: Sequence[PairItem], built: Built) -> list[str]:
        """Show one query, its first positive and its first negative as they are read, and what is compared of them.

        Raises:
            DataError: rows lack the negatives or the teacher's scores that the loss needs.
        """
        self._require_what_the_loss_needs(items)
        late: Any = built.model
        decode = built.tokenizer.decode
        item = items[0]
        [query] = late.query_rows([item.query])
        shown = {"query": query, "positive": late.passage_rows([item.positives[0]])[0]}
        if item.negatives:
            shown["negative"] = late.passage_rows([item.negatives[0]])[0]
        return [
            f"{name}: {decode(row.ids)} ({sum(row.compared)} of {len(row.ids)} tokens are compared)"
            for name, row in shown.items()
        ]

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
        late: Any = model
        form = late.format
        passages = passages_of(rows)
        vectors: Packed = late.encode_passages([form.passage("", text) for text in passages])
        queries: Packed = late.encode_queries([form.query(row.query) for row in rows])
        found: list[Any] = []
        for first in range(0, len(rows), QUERIES):
            progress("searching", first, len(rows))
            lengths = queries.lengths[first : first + QUERIES]
            start = int(queries.lengths[:first].sum())
            part = Packed(queries.vectors[start : start + int(lengths.sum())], lengths)
            best = maxsim(part, vectors).argsort(dim=1, descending=True, stable=True)[:, :SHOWN]
            found += [[passages[place] for place in row] for row in best.tolist()]
        return found

    def references(self, rows: Sequence[Pair]) -> list[Any]:
        """Return each query's positives with their grades."""
        return [row.graded for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:  # noqa: ARG002
        """Write a folder that sentence-transformers loads as a MultiVectorEncoder."""
        late: Any = model
        late.save(folder)

    def _format(self, model: str, own: LateFormat) -> LateFormat:
        """Return the model's own format with what the recipe says put over it.

        Raises:
            ModelError: the two do not go together.
        """
        names = {"query_prefix", "passage_prefix", "query_tokens", "passage_tokens", "expand_to"}
        said = {name: value for name, value in self.model_dump(include=names).items() if value is not None}
        if self.skip_punctuation is not None:
            said["skipped_words"] = PUNCTUATION if self.skip_punctuation else ()
        try:
            return LateFormat(**{**own.model_dump(), **said})
        except ValidationError as error:
            raise ModelError(f"{model}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error

    def _require_width(self, model: str, encoder: LateEncoder) -> None:
        """Check that a saved late-interaction model has the width that the recipe names.

        Raises:
            ModelError: it has another, or no projection.
        """
        own = None if encoder.projection is None else encoder.width
        if own != self.width:
            has = "no projection" if own is None else f"a projection to {own} dimensions"
            raise ModelError(
                f"{model}: this late-interaction model has {has}, and the task's width is "
                f"{'null' if self.width is None else self.width}; say width: {'null' if own is None else own}"
            )

    def _require_what_the_loss_needs(self, items: Sequence[PairItem]) -> None:
        """Check that every row has the negatives and the teacher's scores that the loss needs.

        Raises:
            DataError: rows lack them; each is named.
        """
        if isinstance(self.loss, Contrastive):
            return
        taught = f"loss {self.loss.kind} learns a teacher's scores of"
        bad = [f"row {i.id!r}: {taught} its passages, and the row has no `scores`" for i in items if not i.scores]
        bad += [
            f"row {i.id!r}: {taught} right passages and wrong ones, and the row has no `negatives` beside its positives"
            for i in items
            if not i.negatives
        ]
        raise_faults(bad)
