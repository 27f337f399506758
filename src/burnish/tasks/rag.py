"""Retrieval-augmented generation: a retriever and a generator that learn from the same answers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.cache import cache_folder
from burnish.errors import DataError, RecipeError
from burnish.losses import Joint as JointLoss
from burnish.losses import Loss
from burnish.losses.adist import Adist
from burnish.losses.pdist import Pdist
from burnish.methods import Method
from burnish.metrics import Metric
from burnish.models.answer_rows import answer_rows, messages, passage_spans
from burnish.models.answers_apart import Row
from burnish.models.attention_mass import attention_masses, require_watchable
from burnish.models.completions import is_apart
from burnish.models.decode import answers_to
from burnish.models.dropout import still
from burnish.models.joint import GENERATOR, Halves, Joint, halves_in
from burnish.models.joint_loss import answers_of, passages_loss
from burnish.models.kept_logps import KeptLogps, answers_file
from burnish.models.passages import Passages, passages_of
from burnish.models.refresh import Refresh
from burnish.models.retrieved import RagBatch, RagItem, Retrieved, learns
from burnish.prepare.judged import is_beir
from burnish.prepare.leaks import is_source
from burnish.prompt import PromptFormat
from burnish.readers.beir import read_passages
from burnish.records import Chunk, Question, Record
from burnish.retrievers import Progress
from burnish.tables import read_rows
from burnish.tasks import Built, Encoded, Facts, Sampler, Task, refuse_predictions


class Rag(Task):
    """Retriever and generator together, from questions and answers; no passage needs a label.

    Each step searches with the retriever as it is then. The loss holds the retriever's softmax over the `top_k` found
    against what each passage does for the answer's likelihood; `generator_weight` is that of the generator's own loss,
    the mean negative log-likelihood of an answer's tokens after the prompt that serving would write. A loss that
    trains the generator itself (`rag_sequence`, `rag_token`) has no other beside it unless a weight is given.

    towers: `queries`, the passages' vectors are made once and every search is exact; or `both`, passages are searched
    by vectors that `refresh` makes anew, and compared by fresh ones always. schedule: both halves learn in every step,
    in turns of `turn_steps` steps, or the generator in the first half of all steps and then the retriever by what the
    generator has become (RA-DIT, Lin et al. 2023, arXiv 2310.01352).
    """

    record: ClassVar[type[Record]] = Question
    parts: ClassVar[tuple[str, ...]] = ("retriever", "generator")

    passages: str  # a BEIR folder, or a table of passages: id, title, text
    retriever: str  # a sentence-transformers folder, or an embedded model
    retriever_method: Method = Field(default_factory=lambda: Method.read({"kind": "full", "learning_rate": 1e-5}))
    trains: Literal["both", "retriever", "generator"] = "both"
    towers: Literal["queries", "both"] = "queries"
    refresh: Refresh = Refresh()
    schedule: Literal["together", "alternating", "generator_first"] = "together"
    turn_steps: int = Field(default=10, ge=1)
    loss: Loss = Pdist()
    top_k: int = Field(default=8, ge=2)  # passages of a question that the loss compares; one alone has no gradient
    generator_weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)  # None: 1, or 0 as said above
    generator_reads: Literal["together", "each"] = "together"  # its own loss: one prompt, or one for each passage
    start_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # of a pull to the first retriever (KL)
    gold_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # of InfoNCE, where right passages are known
    skip_source: bool = False  # passages with the question's id, or with question and answer in their text
    prompt: PromptFormat = PromptFormat()
    metrics: tuple[Metric, ...] = Field(default_factory=lambda data: _metrics(data.get("trains")), min_length=1)
    query_tokens: int = 64
    passage_tokens: int = 128
    max_new_tokens: int = Field(default=32, ge=1)
    pass_tokens: int = Field(default=1024, ge=1)  # whose activations are held; the numbers stay

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        """Check that the loss is one between a retriever and a generator, and that the settings go together.

        Raises:
            RecipeError: it is another, or a setting says something of what does not move.
        """
        if not isinstance(self.loss, JointLoss | Adist):
            raise RecipeError(
                f"the loss of rag is pdist, replug, emdr2, loop, adist, rag_sequence or rag_token, not {self.loss.kind}"
            )
        if self.towers == "queries" and self.refresh != Refresh():
            raise RecipeError("refresh: the passages' tower stands still, so their vectors stay; add towers: both")
        if self.schedule != "together" and self.trains != "both":
            raise RecipeError(
                f"schedule: {self.schedule} has two halves take turns, and {self.trains} alone is trained"
            )
        if self.refresh.rerank and self.refresh.rerank < self.top_k:
            raise RecipeError(f"refresh.rerank: {self.refresh.rerank} passages are fewer than top_k ({self.top_k})")
        return self

    @property
    def takes_turns(self) -> bool:
        """Whether the halves do."""
        return self.schedule != "together"

    def moves(self, name: str, step: int, steps: int) -> bool:
        """Tell whether it is the turn of the half that a weight is of; the generator begins."""
        first = step // self.turn_steps % 2 == 0 if self.schedule == "alternating" else 2 * step < steps
        return not self.takes_turns or first == name.startswith(GENERATOR)

    @property
    def _own_weight(self) -> float:
        """The weight of the generator's own loss."""
        if self.trains == "retriever":
            return 0.0
        beside = self.trains == "both" and self._trains_generator
        return (0.0 if beside else 1.0) if self.generator_weight is None else self.generator_weight

    @property
    def _trains_generator(self) -> bool:
        return isinstance(self.loss, JointLoss) and self.loss.trains_generator

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
        joint = Joint.load(retriever, generator, form=form, both_towers=self.towers == "both")
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
            DataError: there are fewer passages than a question compares, or none is right where right ones are asked.
        """
        joint: Any = model
        if isinstance(self.loss, Adist):
            require_watchable(joint.generator)
        passages = self._passages(model, progress=progress)
        if len(passages.chunks) < self.top_k:
            raise DataError(
                f"{self.passages}: {len(passages.chunks)} different passages are there, and top_k is {self.top_k}"
            )
        known = sum(bool(passages.places(item.row.gold)) for item in items)
        if self.gold_weight and not known:
            raise DataError(
                f"gold_weight is {self.gold_weight:g}, and no question names a right passage of {self.passages}; give "
                "questions `gold`, ids of passages, or leave the weight out"
            )
        told = [f"questions with a right passage: {known:,} of {len(items):,}"] if self.gold_weight else []
        return [f"passages that are searched: {len(passages.chunks):,}", *told]

    def begin(self, model: nn.Module) -> Sequence[Tensor]:
        """Return the vectors that are searched, where they follow a tower that moves."""
        return [self._passages(model).vectors] if self.towers == "both" else ()

    def sampler(self, model: nn.Module, built: Built, items: Sequence[RagItem], *, seed: int) -> Sampler:  # noqa: ARG002
        """Return what searches for a step's questions, with the retriever as it is at that step."""
        joint: Any = model
        queries, towers = joint.retriever.queries, joint.retriever
        began = queries.encode_ids([item.query for item in items])
        read = partial(self._signals, joint, cache(lambda: KeptLogps(answers_file(joint.generator))))

        def found(step: int, rows: Sequence[int]) -> list[Retrieved]:
            passages = self._passages(model)
            if passages.stale:
                passages.stale.begin(step, towers.passages)
            asked = [items[row] for row in rows]
            vectors = queries.encode_ids([item.query for item in asked])
            wanted = max(self.top_k, self.prompt.passages)
            places = self._found(joint, passages, [item.row for item in asked], vectors, wanted)
            told = zip(asked, places, rows, strict=True)
            return read([self._retrieved(built, item, own, passages, began[row]) for item, own, row in told])

        return found

    def _found(
        self, joint: Any, passages: Passages, rows: Sequence[Question], queries: Tensor, wanted: int
    ) -> list[list[int]]:
        """Return the places of each question's passages, best first: as many as are wanted, or all that there are.

        Raises:
            DataError: nothing but its own source is found for a question.
        """
        many = max(2 * wanted if self.skip_source else wanted, self.refresh.rerank or 0)
        places_rk = passages.nearest(queries, min(many, len(passages.chunks)))
        if passages.stale and self.refresh.rerank:
            places_rk = passages.stale.ranked(queries, places_rk, joint.retriever.passages)
        kept = []
        for row, places in zip(rows, places_rk.tolist(), strict=True):
            others = [place for place in places if not (self.skip_source and is_source(row, passages.chunks[place]))]
            if not others:
                raise DataError(f"question {row.id!r}: nothing but its own source is found (skip_source)")
            kept.append(others[:wanted])
        return kept

    def _retrieved(
        self, built: Built, item: RagItem, places: Sequence[int], passages: Passages, began: Tensor
    ) -> Retrieved:
        joint: Any = built.model
        compared = places[: self.top_k]
        scored: tuple[Row, ...] = ()
        if self._compares(joint):
            scored = self._rows(item.row, self._read_together(compared), passages, built)
        shown: list[Sequence[int]] = []
        if self._own_weight and learns(joint.generator):
            together = places[: self.prompt.passages]
            shown = [together] if self.generator_reads == "together" else [[place] for place in together]
        right = passages.places(item.row.gold)
        return Retrieved(
            item,
            tuple(compared),
            tuple(passages.chunks[place].id for place in compared),
            frozenset(right),
            tuple(place for place in right if place not in compared) if self.gold_weight else (),
            scored,
            self._rows(item.row, shown, passages, built),
            passages.first[compared].cpu() @ began,
            spans=self._spans(item.row, compared, passages, built) if scored else (),
        )

    def _read_together(self, places: Sequence[int]) -> list[Sequence[int]]:
        """Return which passages stand in each prompt that the loss asks for."""
        loss: Any = self.loss
        if loss.reads == "all_but":
            return [[place for place in places if place != without] for without in places]
        return [places] if loss.reads == "attention" else [[place] for place in places]

    def _compares(self, joint: Any) -> bool:
        """Tell whether the loss between the halves teaches one that moves in this step."""
        return self.trains != "generator" and (
            learns(joint.retriever) or (self._trains_generator and learns(joint.generator))
        )

    def _rows(
        self, row: Question, places: Sequence[Sequence[int]], passages: Passages, built: Built
    ) -> tuple[Row, ...]:
        """Return the question's answer behind a prompt with each of these lists of passages."""
        shown = [[passages.chunks[place] for place in found] for found in places]
        return answer_rows(self.prompt, row, shown, built.tokenizer, apart=is_apart(built.model))

    def _spans(self, row: Question, places: Sequence[int], passages: Passages, built: Built) -> tuple[range, ...]:
        """Return where each passage stands in the prompt with all, where the loss looks at attention."""
        if not isinstance(self.loss, Adist):
            return ()
        chunks = [passages.chunks[place] for place in places]
        return passage_spans(self.prompt, row, chunks, built.tokenizer, apart=is_apart(built.model))

    def _signals(self, joint: Any, kept: Any, found: list[Retrieved]) -> list[Retrieved]:
        """Return the same with what the generator says of each passage, where no gradient is to reach it."""
        rows = [row for one in found for row in one.scored]
        if not rows or (self._trains_generator and learns(joint.generator)):
            return found
        with torch.no_grad(), still(joint.generator):
            if isinstance(self.loss, Adist):
                masses = attention_masses(joint.generator, rows, [one.spans for one in found])
                return [replace(one, signal=mass) for one, mass in zip(found, masses, strict=True)]
            read = partial(answers_of, joint, [one.scored for one in found], pass_tokens=self.pass_tokens)
            logps = kept().of(rows, read) if self.trains == "retriever" else read()
        each = iter(logps)
        return [replace(one, signal=torch.stack([next(each) for _ in one.scored])) for one in found]

    def collate(self, items: Sequence[Retrieved]) -> RagBatch:
        """Keep the questions together; what is read of them is laid out pass by pass."""
        return RagBatch(items, {})

    def micro_batches(
        self,
        model: nn.Module,  # noqa: ARG002
        rows: Sequence[int],
        tokens: Sequence[int],  # noqa: ARG002
        *,
        budget: int,  # noqa: ARG002
    ) -> list[list[int]]:
        """Leave the questions together: memory is that of a pass (`pass_tokens`), and a passage is encoded once."""
        return [[*rows]] * bool(rows)

    def count(self, batch: RagBatch) -> int:
        """Count the questions."""
        return len(batch.found)

    def total_loss(self, model: nn.Module, batch: RagBatch) -> Tensor:
        """Return the sum over questions: the joint loss, the pulls that hold the retriever, the generator's own."""
        joint: Any = model
        total = torch.zeros((), device=next(model.parameters()).device)
        if any(one.scored for one in batch.found):
            compared, told = passages_loss(
                joint,
                self._passages(joint),
                batch.found,
                loss=self.loss,
                start_weight=self.start_weight,
                gold_weight=self.gold_weight,
                pass_tokens=self.pass_tokens,
            )
            batch.told |= told
            total = total + compared
        shown = [one.shown for one in batch.found if one.shown]
        if shown:
            logps = iter(answers_of(joint, shown, pass_tokens=self.pass_tokens))
            own = torch.stack([torch.stack([-next(logps).mean() for _ in rows]).mean() for rows in shown]).sum()
            batch.told["nll"] = (own.item(), len(shown))
            total = total + self._own_weight * own
        return total

    def facts(self, items: Sequence[Retrieved], batches: Sequence[RagBatch]) -> Facts:
        """Return what the step's log tells: how many passages differ, the retriever's softmax, each part's mean."""
        places = [place for one in items for place in one.places]
        known = [one for one in items if one.item.row.gold]
        found: dict[str, tuple[float | frozenset[int], float]] = {
            "different passages": (frozenset(places), len(places)),
            "gold found": (sum(not one.right.isdisjoint(one.places) for one in known), len(known)),
        }
        for name in ("entropy", "kl", "nll", "gold loss", "index cosine", "index anew"):
            told = [batch.told[name] for batch in batches if name in batch.told]
            found[name] = (sum(total for total, _ in told), sum(count for _, count in told))
        return found

    def audit(self, items: Sequence[RagItem], built: Built) -> list[str]:
        """Show how the retriever reads a question, and what the generator is to answer."""
        joint: Any = built.model
        item = items[0]
        read = joint.retriever.queries.tokenizer.decode(item.query)
        return [f"query: {read} ⟶ {self.top_k} passages are compared by the answer {item.row.answers[0]!r}"]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Question], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return what the generator answers to each question by the passages that are found, or these passages' texts.

        Raises:
            DataError: another kind is asked for.
        """
        if reads not in ("answers", "passages"):
            refuse_predictions(self, reads)
        joint: Any = model
        passages, tower = self._passages(model, progress=progress), joint.retriever.queries
        form = tower.format
        queries, _ = tower.encode([form.query(row.question) for row in rows], max_tokens=form.query_tokens)
        passages = passages.now(joint.retriever.passages)
        most = max((getattr(metric, "k", 0) for metric in self.metrics if metric.reads == reads), default=0)
        found = self._found(joint, passages, rows, queries, most or self.prompt.passages)
        shown = [[passages.chunks[place] for place in places] for places in found]
        if reads == "passages":
            return [[f"{chunk.title}\n{chunk.text}" for chunk in row] for row in shown]
        asked = [messages(self.prompt, row, chunks) for row, chunks in zip(rows, shown, strict=True)]
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
        refresh = self.refresh if self.towers == "both" else None
        folder = cache_folder() / "passages"
        return passages_of(joint, lambda: _read(self.passages), folder=folder, refresh=refresh, progress=told)


def _metrics(trains: str | None) -> tuple[Metric, ...]:
    """Return what is reported where the recipe does not say; a generator that stands still is watched last."""
    answers, passages = ("exact_match", "token_f1"), ("answer_recall@5",)
    return tuple(map(Metric.read, (*passages, *answers) if trains == "retriever" else (*answers, *passages)))


def _read(place: str) -> Sequence[Chunk]:
    return read_passages(Path(place)) if is_beir(place) else read_rows(place, Chunk)
