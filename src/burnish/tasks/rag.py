"""Retrieval-augmented generation: a retriever and a generator that learn from the same answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from burnish.cache import cache_folder
from burnish.errors import DataError, RecipeError
from burnish.losses import Joint as JointLoss
from burnish.losses import Loss
from burnish.losses.anchor_kl import AnchorKl
from burnish.losses.pdist import Pdist
from burnish.methods import Method
from burnish.metrics import Metric
from burnish.models.answers_apart import Row, logps_in_passes
from burnish.models.completions import is_apart
from burnish.models.decode import answers_to
from burnish.models.dropout import still
from burnish.models.joint import Halves, Joint, halves_in
from burnish.models.packing import packed_batches
from burnish.models.passages import Passages, chosen, passages_of
from burnish.models.render import render
from burnish.passage_softmax import log_shares
from burnish.prepare.judged import is_beir
from burnish.prompt import PromptFormat
from burnish.readers.beir import read_passages
from burnish.records import Chunk, Completion, Question, Record
from burnish.retrievers import Progress
from burnish.tables import read_rows
from burnish.tasks import Built, Encoded, Facts, Sampler, Task, refuse_predictions


@dataclass(frozen=True, slots=True)
class RagItem:
    """A question, tokenized for the retriever, and its answers; gold: ids of its right passages, if any is known."""

    id: str
    row: Question
    query: tuple[int, ...]
    tokens: int  # before anything is retrieved: those of the query


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A question with the passages that the retriever finds at this step, best first.

    places, ids: of the passages. scored: prompts with the answer, whose likelihood the loss reads, if it reads any.
    shown: the prompt that serving would write, with the answer, where the generator learns from it. start: (passages,)
    scores of the same passages by the retriever as it began.
    """

    item: RagItem
    places: tuple[int, ...]
    ids: tuple[str, ...]
    scored: tuple[Row, ...]
    shown: tuple[Row, ...]
    start: Tensor

    @property
    def id(self) -> str:
        """The question's."""
        return self.item.id

    @property
    def tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return sum(len(prompt) + len(answer) for prompt, answer in (*self.scored, *self.shown))


@dataclass(slots=True)
class RagBatch:
    """Questions with their passages, and what the step's log tells of them once the loss is computed."""

    found: Sequence[Retrieved]
    entropy: float = 0.0
    kl: float = 0.0
    nll: float = 0.0


class Rag(Task):
    """Retriever and generator together, from questions and answers; no passage needs a label.

    Each step searches with the retriever as it is then. The loss holds the retriever's softmax over the `top_k` found
    against what each passage does for the answer's likelihood; `generator_weight` is that of the generator's own loss,
    the mean negative log-likelihood of an answer's tokens after the prompt that serving would write. A loss that
    trains the generator itself (`rag_sequence`, `rag_token`) has no other beside it unless a weight is given.
    Only the tower of queries moves: the passages' vectors are made once, and every search is exact.
    """

    record: ClassVar[type[Record]] = Question

    passages: str  # a BEIR folder, or a table of passages: id, title, text
    retriever: str  # a sentence-transformers folder, or an embedded model
    retriever_method: Method = Field(default_factory=lambda: Method.read({"kind": "full", "learning_rate": 1e-5}))
    trains: Literal["both", "retriever", "generator"] = "both"
    loss: Loss = Pdist()
    top_k: int = Field(default=8, ge=2)  # passages of a question that the loss compares; one alone has no gradient
    generator_weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # None: 1, or 0 as said above
    start_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # of a pull to the first retriever (KL)
    prompt: PromptFormat = PromptFormat()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("exact_match", "token_f1"))), min_length=1
    )
    query_tokens: int = 64
    passage_tokens: int = 128
    max_new_tokens: int = Field(default=32, ge=1)
    pass_tokens: int = Field(default=2048, ge=1)  # whose activations are held; the numbers stay

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        """Check that the loss is one between a retriever and a generator.

        Raises:
            RecipeError: it is another.
        """
        if not isinstance(self.loss, JointLoss):
            raise RecipeError(
                f"the loss of rag is pdist, replug, emdr2, loop, rag_sequence or rag_token, not {self.loss.kind}"
            )
        return self

    @property
    def _own_weight(self) -> float:
        """The weight of the generator's own loss."""
        if self.trains == "retriever":
            return 0.0
        beside = self.trains == "both" and self._joint.trains_generator
        return (0.0 if beside else 1.0) if self.generator_weight is None else self.generator_weight

    @property
    def _joint(self) -> JointLoss:
        assert isinstance(self.loss, JointLoss)
        return self.loss

    def adapted_by(self, method: Method) -> Method:
        """Return the method of both halves; method: the recipe's, which is the generator's."""
        return Halves.of(
            self.retriever_method if self.trains != "generator" else None,
            method if self.trains != "retriever" else None,
        )

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load both halves: from the folder that a run has made, or `retriever`, and the model as the generator."""
        form = {"query_tokens": self.query_tokens, "passage_tokens": self.passage_tokens}
        retriever, generator = halves_in(model) or (self.retriever, model)
        joint = Joint.load(retriever, generator, form=form)
        return Built(joint, joint.tokenizer)

    def encode(self, rows: Sequence[Question], built: Built) -> Encoded:
        """Tokenize the questions for the retriever; those without an answer are left out."""
        joint: Any = built.model
        tower = joint.retriever.queries
        kept = [row for row in rows if any(answer.strip() for answer in row.answers)]
        form = tower.format
        read = [form.query(row.question) for row in kept]
        ids, cut = tower.tokenize(read, max_tokens=form.query_tokens) if kept else ([], 0)
        items = [RagItem(row.id, row, tuple(query), len(query)) for row, query in zip(kept, ids, strict=True)]
        notes = {"questions without an answer left out": len(rows) - len(kept), "questions cut at the end": cut}
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def prepare(self, model: nn.Module, items: Sequence[RagItem], *, cache: Path, progress: Progress) -> list[str]:  # noqa: ARG002
        """Encode the passages, once for all runs with this retriever, and read the questions as it reads them now.

        Raises:
            DataError: there are fewer passages than a question compares.
        """
        passages = self._passages(model, progress=progress)
        if len(passages.chunks) < self.top_k:
            raise DataError(
                f"{self.passages}: {len(passages.chunks)} different passages are there, and top_k is {self.top_k}"
            )
        return [f"passages that are searched: {len(passages.chunks):,}"]

    def sampler(self, model: nn.Module, built: Built, items: Sequence[RagItem], *, seed: int) -> Sampler:  # noqa: ARG002
        """Return what searches for a step's questions, with the retriever as it is at that step."""
        joint: Any = model
        began = joint.retriever.queries.encode_ids([item.query for item in items])

        def found(step: int, rows: Sequence[int]) -> list[Retrieved]:  # noqa: ARG001
            asked = [items[row] for row in rows]
            passages = self._passages(model)
            queries = joint.retriever.queries.encode_ids([item.query for item in asked])
            places = passages.nearest(queries, max(self.top_k, self.prompt.passages)).tolist()
            return [
                self._retrieved(item, places, passages, built, began[row])
                for item, row, places in zip(asked, rows, places, strict=True)
            ]

        return found

    def _retrieved(
        self, item: RagItem, places: Sequence[int], passages: Passages, built: Built, began: Tensor
    ) -> Retrieved:
        compared = places[: self.top_k]
        scored: list[Row] = []
        if self.trains != "generator":
            others = [[place] for place in compared]
            if self._joint.reads == "all_but":
                others = [[place for place in compared if place != without] for without in compared]
            scored = self._rows(item.row, others, passages, built)
        shown = [places[: self.prompt.passages]] if self._own_weight else []
        return Retrieved(
            item,
            tuple(compared),
            tuple(passages.chunks[place].id for place in compared),
            tuple(scored),
            tuple(self._rows(item.row, shown, passages, built)),
            passages.vectors[compared].cpu() @ began,
        )

    def _rows(self, row: Question, places: Sequence[Sequence[int]], passages: Passages, built: Built) -> list[Row]:
        """Return the question's answer behind a prompt with each of these lists of passages."""
        answer = next(answer for answer in row.answers if answer.strip())
        asked = [self._asked(row, [passages.chunks[place] for place in found]) for found in places]
        told = [Completion(id=row.id, prompt=prompt, completion=answer) for prompt in asked]
        return [(prompt, ids) for prompt, ids in render(told, built.tokenizer, apart=is_apart(built.model))]

    def _asked(self, row: Question, chunks: Sequence[Chunk]) -> Any:
        form = self.prompt.model_copy(update={"passages": len(chunks)})
        return form.messages(row.question, chunks)

    def collate(self, items: Sequence[Retrieved]) -> RagBatch:
        """Keep the questions together; what is read of them is laid out pass by pass."""
        return RagBatch(items)

    def micro_batches(
        self,
        model: nn.Module,  # noqa: ARG002
        rows: Sequence[int],
        tokens: Sequence[int],
        *,
        budget: int,
    ) -> list[list[int]]:
        """Cut a step's questions into groups; the memory is that of a pass (`pass_tokens`), not of a group."""
        return packed_batches(rows, tokens, budget=budget)

    def count(self, batch: RagBatch) -> int:
        """Count the questions."""
        return len(batch.found)

    def total_loss(self, model: nn.Module, batch: RagBatch) -> Tensor:
        """Return the sum over questions: the joint loss, the pull to the start, the generator's own loss by weight."""
        joint: Any = model
        total = torch.zeros((), device=next(model.parameters()).device)
        if self.trains != "generator":
            total = total + self._of_retriever(joint, batch)
        if self._own_weight:
            rows = [row for one in batch.found for row in one.shown]
            own = [-logps.mean() for logps in self._logps(joint, rows, moves=True)]
            batch.nll = sum(one.item() for one in own)
            total = total + self._own_weight * torch.stack(own).sum()
        return total

    def _of_retriever(self, joint: Any, batch: RagBatch) -> Tensor:
        places = [one.places for one in batch.found]
        queries = joint.retriever.queries.embed([one.item.query for one in batch.found])
        vectors_rkw, there_rk = chosen(self._passages(joint).vectors, places)
        there_rk = there_rk.to(queries.device)
        scores_rk = (vectors_rkw.to(queries.device) * queries[:, None]).sum(dim=2)
        moves = self._joint.trains_generator and self.trains == "both"
        logps_rkt, tokens_r = self._answers(joint, batch, moves=moves)
        total: Tensor = self._joint(scores_rk, there_rk, logps_rkt, tokens_r)
        start_rk = pad_sequence([one.start for one in batch.found], batch_first=True).to(queries.device)
        pull: Tensor = AnchorKl(temperature=self._joint.temperature)(scores_rk, there_rk, start_rk)
        batch.kl = pull.item()
        shares = log_shares(scores_rk.detach(), there_rk, temperature=self._joint.temperature)
        batch.entropy = -(shares.exp() * shares.masked_fill(~there_rk, 0)).sum().item()
        return total + self.start_weight * pull if self.start_weight else total

    def _answers(self, joint: Any, batch: RagBatch, *, moves: bool) -> tuple[Tensor, Tensor]:
        """Return (questions, passages, tokens): ln of the answers' tokens' probabilities; (questions,): how many."""
        rows = [row for one in batch.found for row in one.scored]
        logps = iter(self._logps(joint, rows, moves=moves))
        each = [torch.stack([next(logps) for _ in one.scored]) for one in batch.found]
        wide, most = max(len(one) for one in each), max(one.shape[1] for one in each)
        padded = [nn.functional.pad(one, (0, most - one.shape[1], 0, wide - len(one))) for one in each]
        tokens = torch.tensor([one.shape[1] for one in each], device=padded[0].device)
        return torch.stack(padded), tokens

    def _logps(self, joint: Any, rows: Sequence[Row], *, moves: bool) -> list[Tensor]:
        """Return ln of the probabilities of the answers' tokens; without a gradient as the generator writes them."""
        network = joint.generator
        read = partial(logps_in_passes, network, rows, pass_tokens=self.pass_tokens, apart=is_apart(joint))
        if moves:
            return read()
        with torch.no_grad(), still(network):
            return read()

    def facts(self, items: Sequence[Retrieved], batches: Sequence[RagBatch]) -> Facts:
        """Return means of the step: how many of its passages differ, and what the retriever's softmax looks like."""
        places = [place for one in items for place in one.places]
        found: dict[str, tuple[float, float]] = {"different passages": (len({*places}), len(places))}
        gold = [one for one in items if one.item.row.gold]
        if self.trains != "generator":
            found["entropy"] = (math.fsum(batch.entropy for batch in batches), len(items))
            found["kl"] = (math.fsum(batch.kl for batch in batches), len(items))
        if self._own_weight:
            found["nll"] = (math.fsum(batch.nll for batch in batches), len(items))
        return found | {"gold found": (sum(self._has_gold(one) for one in gold), len(gold))}

    def audit(self, items: Sequence[RagItem], built: Built) -> list[str]:
        """Show how the retriever reads a question, and what the generator is to answer."""
        joint: Any = built.model
        item = items[0]
        read = joint.retriever.queries.tokenizer.decode(item.query)
        return [f"query: {read} ⟶ {self.top_k} passages are compared by the answer {item.row.answers[0]!r}"]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Question], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return what the generator answers to each question by the passages that the retriever finds.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "answers":
            refuse_predictions(self, reads)
        joint: Any = model
        passages, tower = self._passages(model, progress=progress), joint.retriever.queries
        form = tower.format
        queries, _ = tower.encode([form.query(row.question) for row in rows], max_tokens=form.query_tokens)
        found = passages.nearest(queries, self.prompt.passages).tolist()
        asked = [
            self._asked(row, [passages.chunks[place] for place in places])
            for row, places in zip(rows, found, strict=True)
        ]
        return answers_to(
            joint.generator,
            built.tokenizer,
            asked,
            max_new_tokens=self.max_new_tokens,
            done=lambda done: progress("answering", done, len(rows)),
        )

    def references(self, rows: Sequence[Question]) -> list[Any]:
        """Return the right answers of each question."""
        return [row.answers for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:  # noqa: ARG002
        """Write both halves, each in a folder that other libraries load."""
        joint: Any = model
        joint.save(folder)

    def _passages(self, model: nn.Module, *, progress: Progress = lambda *_: None) -> Passages:
        joint: Any = model
        told = partial(progress, "encoding passages")
        return passages_of(joint, lambda: _read(self.passages), folder=cache_folder() / "passages", progress=told)

    def _has_gold(self, one: Retrieved) -> bool:
        return not {*one.item.row.gold}.isdisjoint(one.ids)


def _read(place: str) -> Sequence[Chunk]:
    return read_passages(Path(place)) if is_beir(place) else read_rows(place, Chunk)
