"""Extraction: the piece of a context that answers a question, or that there is none."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import DataError, ModelError, RecipeError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.metrics import Metric
from burnish.models.load import load_span_reader
from burnish.models.packing import micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.save import save_network
from burnish.records import Extraction, Record, Span
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

PASS_TOKENS = 8192  # padded tokens in one forward pass where no gradient is needed
ROWS_A_CALL = 1000  # whose windows are held at once with the places of all their tokens
SPECIAL = 4  # special tokens that a pair has at most


@dataclass(frozen=True, slots=True)
class ExtractItem:
    """A window: the question and a stretch of the context, with the places of its answer's first and last token.

    Both are 0, where every model has a special token or the question, if the window does not hold the answer whole.
    types: 1 on the context, where the model tells the two texts apart by this; else empty.
    """

    id: str
    text: tuple[int, ...]
    types: tuple[int, ...]
    start: int
    end: int

    @property
    def tokens(self) -> int:
        """Tokens of the window."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class ExtractBatch:
    """Windows padded on the right, and the places of their answers' first and last token, (windows,)."""

    input_ids: Tensor
    attention_mask: Tensor
    types: Tensor | None
    starts: Tensor
    ends: Tensor


class _Window(NamedTuple):
    """A window with the way back to the text: where each token of the context starts and ends there, in characters."""

    item: ExtractItem
    first: int  # place of the context's first token in the window
    offsets: Sequence[tuple[int, int]]


class _Found(NamedTuple):
    """What a window says: the score of no answer, that of its best span, and the span's place in the context."""

    nothing: float
    best: float
    start: int
    end: int


class Extract(Task):
    """Extractive question answering with no-answer, as SQuAD 2.0 has it (Rajpurkar et al. 2018, arXiv 1806.03822).

    Long contexts are read in windows that overlap. Trained: the cross-entropy of the answer's first and of its last
    token, added, one unit a window. Predicted: the span with the largest start + end score over all windows, or
    nothing where the smallest score of position 0 over the windows exceeds that by more than the threshold.
    """

    record: ClassVar[type[Record]] = Extraction

    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("token_f1", "exact_match"))), min_length=1
    )
    max_tokens: int = Field(default=384, ge=8)  # of a window
    overlap: int = Field(default=128, ge=0)  # tokens of the context that two neighbouring windows share
    question_tokens: int = Field(default=64, ge=1)  # a longer question is cut at the end, and counted
    answer_tokens: int = Field(default=30, ge=1)  # a longer span is not predicted
    null_threshold: float | None = Field(default=0.0, allow_inf_nan=False)  # None: there always is an answer

    @model_validator(mode="after")
    def _leaves_room_for_the_context(self) -> "Extract":
        """Check that each window reads on.

        Raises:
            RecipeError: question and overlap fill it.
        """
        least = self.question_tokens + self.overlap + SPECIAL + 1
        if self.max_tokens < least:
            raise RecipeError(
                f"max_tokens is {self.max_tokens}, and a question of {self.question_tokens} tokens and an overlap of "
                f"{self.overlap} need at least {least}"
            )
        return self

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a head that scores each token as start and as end.

        Raises:
            ModelError: the model cannot read so many tokens at once.
        """
        found = load_span_reader(model, dtype=torch.float32, seed=seed)
        longest = longest_input(found.model, found.tokenizer)
        if self.max_tokens > longest:
            raise ModelError(
                f"{model}: windows of {self.max_tokens} tokens are asked for, and this model reads at most {longest}"
            )
        return Built(found.model, found.tokenizer, fresh=found.fresh)

    def encode(self, rows: Sequence[Extraction], built: Built) -> Encoded:
        """Cut the rows into windows; a row whose answer no window holds whole is left out, and counted."""
        questions, cut = self._questions(rows, built.tokenizer)
        items: list[ExtractItem] = []
        lost = several = 0
        for row, windows in zip(rows, self._windows(rows, questions, built.tokenizer), strict=True):
            several += len(windows) > 1
            if row.answers and not any(window.item.end for window in windows):
                lost += 1
            else:
                items += [window.item for window in windows]
        notes = {
            f"questions cut at {self.question_tokens} tokens": cut,
            "rows whose answer stands in no window whole, left out": lost,
            "contexts read in several windows": several,
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[ExtractItem]) -> ExtractBatch:
        """Pad on the right."""
        ids, mask = pad_right([item.text for item in items])
        types = pad_right([item.types for item in items])[0] if items[0].types else None
        starts, ends = torch.tensor([[item.start, item.end] for item in items]).unbind(dim=1)
        return ExtractBatch(ids, mask, types, starts, ends)

    def count(self, batch: ExtractBatch) -> int:
        """Count the windows."""
        return len(batch.starts)

    def total_loss(self, model: nn.Module, batch: ExtractBatch) -> Tensor:
        """Return the cross-entropies of start and end, summed over the windows."""
        starts, ends = self._scores(model, batch)
        loss = CrossEntropy()
        return loss(starts, batch.starts.to(starts.device)) + loss(ends, batch.ends.to(ends.device))

    def find(self, model: nn.Module, built: Built, rows: Sequence[Extraction]) -> list[Span | None]:
        """Return the piece of its context that answers each row's question, or None; the rows' answers are not read."""
        found: list[Span | None] = []
        for begin in range(0, len(rows), ROWS_A_CALL):
            part = rows[begin : begin + ROWS_A_CALL]
            windows = list(self._windows(part, self._questions(part, built.tokenizer)[0], built.tokenizer))
            said = iter(self._read(model, list(chain.from_iterable(windows))))
            for row, own in zip(part, windows, strict=True):
                found.append(self._answer(row.context, [next(said) for _ in own]))
        return found

    def predict(self, model: nn.Module, built: Built, rows: Sequence[Extraction]) -> list[str]:
        """Return the answer to each row's question, in the order given; an empty text where there is none."""
        return [span.text if span else "" for span in self.find(model, built, rows)]

    def audit(self, items: Sequence[ExtractItem], built: Built) -> list[str]:
        """Show three windows with their answers, and how many hold none.

        Raises:
            DataError: no window holds an answer, so that only silence could be learned.
        """
        empty = sum(not item.end for item in items)
        if empty == len(items):
            raise DataError(
                f"none of the {empty} windows holds an answer, so the model could only learn to say nothing"
            )
        lines = []
        for item in items[:3]:
            answer = built.tokenizer.decode(item.text[item.start : item.end + 1])
            lines.append(f"{built.tokenizer.decode(item.text)} → {repr(answer) if item.end else 'no answer'}")
        return [*lines, f"{len(items)} windows, {empty} of them without an answer"]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Extraction], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return the answer to each row's question, an empty text where there is none.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "answers":
            refuse_predictions(self, reads)
        progress("answering", 0, 1)
        return list(self.predict(model, built, rows))

    def references(self, rows: Sequence[Extraction]) -> list[Any]:
        """Return the right answers of each row; where there are none, the right one is an empty text."""
        return [tuple(span.text for span in row.answers) or ("",) for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        save_network(model, built.tokenizer, folder)

    def _questions(self, rows: Sequence[Extraction], tokenizer: Any) -> tuple[list[str], int]:
        """Return the questions, cut where they are too long, and how many were cut."""
        questions = [row.question for row in rows]
        if not questions:
            return [], 0
        offsets = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [
            places[self.question_tokens - 1][1] if len(places) > self.question_tokens else None for places in offsets
        ]
        return [text[:end] for text, end in zip(questions, ends, strict=True)], sum(end is not None for end in ends)

    def _windows(self, rows: Sequence[Extraction], questions: Sequence[str], tokenizer: Any) -> Iterator[list[_Window]]:
        """Yield the windows of each row, of which there is at least one."""
        for begin in range(0, len(rows), ROWS_A_CALL):
            part = rows[begin : begin + ROWS_A_CALL]
            found = tokenizer(
                list(questions[begin : begin + ROWS_A_CALL]),
                [row.context for row in part],
                truncation="only_second",
                max_length=self.max_tokens,
                stride=self.overlap,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            places: list[list[int]] = [[] for _ in part]
            for place, owner in enumerate(found["overflow_to_sample_mapping"]):
                places[owner].append(place)
            for row, own in zip(part, places, strict=True):
                yield [_window(row, found, place, opens=place == own[0], closes=place == own[-1]) for place in own]

    def _read(self, model: nn.Module, windows: Sequence[_Window]) -> list[_Found]:
        """Return what each window says, in the order given."""
        groups = micro_batches(range(len(windows)), [window.item.tokens for window in windows], budget=PASS_TOKENS)
        found: dict[int, _Found] = {}
        with torch.no_grad():
            for group in groups:
                starts, ends = self._scores(model, self.collate([windows[place].item for place in group]))
                for place, start, end in zip(group, starts.cpu(), ends.cpu(), strict=True):
                    found[place] = self._best(windows[place], start, end)
        return [found[place] for place in range(len(windows))]

    def _best(self, window: _Window, starts: Tensor, ends: Tensor) -> _Found:
        """Return what a window says; starts, ends: (width,), in fp32."""
        size = len(window.offsets)
        nothing = (starts[0] + ends[0]).item()
        if not size:
            return _Found(nothing, -math.inf, 0, 0)
        inside = slice(window.first, window.first + size)
        allowed = torch.ones(size, size, dtype=torch.bool).triu().tril(self.answer_tokens - 1)
        scores = (starts[inside, None] + ends[None, inside]).masked_fill(~allowed, -torch.inf)
        start, end = divmod(int(scores.argmax()), size)
        return _Found(nothing, scores[start, end].item(), window.offsets[start][0], window.offsets[end][1])

    def _answer(self, context: str, said: Sequence[_Found]) -> Span | None:
        """Return the best span over a row's windows, unless saying nothing is better by more than the threshold."""
        best = max(said, key=lambda found: found.best)
        nothing = min(found.nothing for found in said)
        text = context[best.start : best.end]
        if not text.strip() or (self.null_threshold is not None and nothing - best.best > self.null_threshold):
            return None
        return Span(text=text.strip(), start=best.start + len(text) - len(text.lstrip()))

    @staticmethod
    def _scores(model: nn.Module, batch: ExtractBatch) -> tuple[Tensor, Tensor]:
        """Return (windows, width) scores of start and end in fp32; padding can be neither."""
        found = model(**network_inputs(model, batch.input_ids, batch.attention_mask, batch.types))
        padded = batch.attention_mask.to(found.start_logits.device) == 0
        starts, ends = (
            logits.float().masked_fill(padded, -torch.inf) for logits in (found.start_logits, found.end_logits)
        )
        return starts, ends


def _window(row: Extraction, found: Any, place: int, *, opens: bool, closes: bool) -> _Window:
    """Return one of the tokenizer's windows, with the first of the row's answers that it holds whole.

    found: the tokenizer's answer for many rows. opens, closes: whether the context begins and ends in this window.
    """
    sides = found.sequence_ids(place)
    size = sides.count(1)
    first = sides.index(1) if size else 0
    offsets = found["offset_mapping"][place][first : first + size]
    targets = [_target(span, offsets, opens=opens, closes=closes) for span in row.answers]
    start, end = next((target for target in targets if target), (-first, -first))
    types = found["token_type_ids"][place] if "token_type_ids" in found else ()
    item = ExtractItem(
        row.id,
        tuple(found["input_ids"][place]),
        tuple(types) if any(types) else (),
        first + start,
        first + end,
    )
    return _Window(item, first, offsets)


def _target(span: Span, offsets: Sequence[tuple[int, int]], *, opens: bool, closes: bool) -> tuple[int, int] | None:
    """Return the first and last token of an answer, counted in the window's context; None if it is not whole there."""
    text = span.text.strip()
    start = span.start + span.text.find(text)
    end = start + len(text)
    tokens = [token for token, (a, b) in enumerate(offsets) if a < end and b > start]
    if not tokens or (start < offsets[0][0] and not opens) or (end > offsets[-1][1] and not closes):
        return None
    return tokens[0], tokens[-1]
