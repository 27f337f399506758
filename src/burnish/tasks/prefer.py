"""Preference: a model that writes learns which of two answers to a prompt is the better one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import DataError, RecipeError
from burnish.losses import Answers, Loss, Prefers
from burnish.losses.dpo import Dpo
from burnish.losses.kto import Kto
from burnish.metrics import Metric
from burnish.models.completions import CompletionBatch, collate_branches, collate_branches_apart, is_apart
from burnish.models.layout import Branches
from burnish.models.load import load_writer, resolve
from burnish.models.packing import micro_batches
from burnish.models.reference import (
    answer_keys,
    answer_logps,
    as_answers,
    has_reference,
    keep_reference,
    logps_of,
    origin_of,
    reference_logps,
    write_origin,
)
from burnish.models.render import render
from burnish.models.save import save_network
from burnish.models.segments import is_packed
from burnish.models.start import rounded
from burnish.preference_rows import Preference, Thumb
from burnish.records import Completion, Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Facts, Task, refuse_predictions

_names: WeakKeyDictionary[nn.Module, tuple[str, str]] = WeakKeyDictionary()  # a network → its name, and its origin's


@dataclass(frozen=True, slots=True)
class PreferItem:
    """A prompt and two answers, tokenized, each of which ends with the end of the turn.

    answers: the preferred and the rejected one; of a thumb its own, and one that belongs to another prompt. good: of a
    thumb, whether its answer is liked; else true. keys: of the answers behind this prompt.
    """

    id: str
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], tuple[int, ...]]
    good: bool
    apart: bool  # the prompt is read by an encoder of its own
    keys: tuple[bytes, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the prompt, which is read once, and of both answers."""
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def branches(self) -> Branches:
        """The prompt, and what goes on from it."""
        return self.prompt, self.answers


@dataclass(slots=True)
class PreferBatch:
    """Answers in one batch, two a row; told: what the last pass found, sums and what they are divided by."""

    completions: CompletionBatch
    keys: tuple[bytes, ...]
    good: Tensor
    told: dict[str, tuple[float, float]] = field(default_factory=dict)


class Prefer(Task):
    """Preferences (DPO and its kin), any model that writes: a prompt is read once for both answers.

    What the model thought of the answers before the first step, which most losses compare with, is computed once and
    kept in the user's cache, so that a step is one pass of one model. With loss `kto` the rows are single answers,
    liked or not; behind each prompt it also reads an answer that belongs to another, to estimate the divergence.

    Metrics read the margin of the rewards that the loss compares. A saved model names the one that it was trained from,
    against which it is measured again; a model that was trained from nothing is measured against itself: margins of 0.
    """

    prepares_as_it_trains: ClassVar[bool] = True  # two roundings in h would be as large as what a step changes

    loss: Loss = Dpo()
    metrics: tuple[Metric, ...] = Field(default_factory=lambda: (Metric.read("preference_accuracy"),), min_length=1)
    max_tokens: int = 1024  # of a prompt with its longer answer; a longer row is left out, and counted

    @model_validator(mode="after")
    def _compares_answers(self) -> "Prefer":
        """Check that the loss is one of answers.

        Raises:
            RecipeError: it is another.
        """
        if not isinstance(self.loss, Prefers | Kto):
            fitting = [name for name in Loss.names() if issubclass(Loss.named(name), Prefers | Kto)]
            raise RecipeError(f"the loss of preferences is one of {', '.join(fitting)}, not {self.loss.kind}")
        return self

    @property
    def record(self) -> type[Record]:  # type: ignore[override]
        """Rows of two answers, or of one where the loss reads these."""
        return Thumb if isinstance(self.loss, Kto) else Preference

    @property
    def divisible(self) -> bool:  # type: ignore[override]
        """Whether a batch may be cut: not where rows are held against the batch's mean."""
        return not isinstance(self.loss, Kto)

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the model with its tokenizer and chat template."""
        network, tokenizer = load_writer(model, dtype=torch.float32)
        _names[network] = model, origin_of(resolve(model)) or model
        return Built(network, tokenizer)

    def encode(self, rows: Sequence[Preference | Thumb], built: Built) -> Encoded:
        """Tokenize prompts and answers by the model's own template.

        Raises:
            DataError: thumbs are all of one prompt, so that no answer belongs to another.
        """
        apart = is_apart(built.model)
        texts = [(row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion,) for row in rows]
        asked = [
            Completion(id=row.id, prompt=row.prompt, completion=text)
            for row, found in zip(rows, texts, strict=True)
            for text in found
        ]
        read = iter(render(asked, built.tokenizer, apart=apart))
        found = []
        for row, some in zip(rows, texts, strict=True):
            pairs = [next(read) for _ in some]
            answers = [tuple(answer) for _, answer in pairs]
            good = isinstance(row, Preference) or row.label == "good"
            found.append((row.id, tuple(pairs[0][0]), answers, good))
        kept = [row for row in found if len(row[1]) + max(map(len, row[2])) <= self.max_tokens]
        too_long = len(found) - len(kept)
        if kept and isinstance(self.loss, Kto):
            kept = _mismatched(kept)
        different = [row for row in kept if row[2][0] != row[2][1]]
        items = [
            PreferItem(name, prompt, (first, second), good, apart, answer_keys(prompt, (first, second)))
            for name, prompt, (first, second), good in different
        ]
        notes = {
            f"rows of more than {self.max_tokens} tokens left out": too_long,
            "rows whose two answers read the same left out": len(kept) - len(different),
            "rows that stand twice": len(items) - len({(item.prompt, item.answers, item.good) for item in items}),
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def prepare(self, model: nn.Module, items: Sequence[PreferItem], *, cache: Path, progress: Progress) -> list[str]:
        """Compute how likely the answers are before the first step, where the loss compares with that."""
        if not self._needs_reference or not items:
            return []
        new = keep_reference(
            model,
            [item.branches for item in items],
            apart=items[0].apart,
            folder=cache / "reference",
            progress=lambda *done: progress("reading answers as they were", *done),
        )
        return [f"answers as the model rated them before: {len(items):,} rows, of which {new:,} are read for this run"]

    def prepare_dev(
        self, model: nn.Module, built: Built, rows: Sequence[Any], *, cache: Path, progress: Progress
    ) -> list[str]:
        """Do so for the rows that are scored while it trains."""
        return self.prepare(model, self.encode(rows, built).items, cache=cache, progress=progress)

    def collate(self, items: Sequence[PreferItem]) -> PreferBatch:
        """Put all prompts, each with its two answers, into one row, or into an encoder's and a decoder's."""
        rows = [item.branches for item in items]
        batch = collate_branches_apart(rows) if items[0].apart else collate_branches(rows)
        keys = tuple(key for item in items for key in item.keys)
        return PreferBatch(batch, keys, torch.tensor([item.good for item in items]))

    def micro_batches(
        self, model: nn.Module, rows: Sequence[int], tokens: Sequence[int], *, budget: int
    ) -> list[list[int]]:
        """Cut a step's rows into groups that are read at once, counting padding only where the model needs it."""
        if not self.divisible:
            return super().micro_batches(model, rows, tokens, budget=budget)
        return micro_batches(rows, tokens, budget=budget, padded=not is_packed(model))

    def count(self, batch: PreferBatch) -> int:
        """Count the rows."""
        return len(batch.good)

    def total_loss(self, model: nn.Module, batch: PreferBatch) -> Tensor:
        """Return the loss summed over the rows."""
        logps = answer_logps(model, batch.completions)
        reference = reference_logps(model, batch.keys) if self._needs_reference else torch.zeros_like(logps)
        first, second = _sides(logps, reference, batch.completions.lengths)
        if isinstance(self.loss, Kto):
            good = batch.good.to(logps.device)
            rewards = self.loss.rewards(first).detach()
            batch.told = {
                "reward_good": (float(rewards[good].sum()), float(good.sum())),
                "reward_bad": (float(rewards[~good].sum()), float((~good).sum())),
                "baseline": (float(self.loss.baseline(second)), 1.0),
            }
            return self.loss(first, good, second)
        assert isinstance(self.loss, Prefers)
        chosen, rejected = (self.loss.rewards(side).detach() for side in (first, second))
        rows = float(len(chosen))
        batch.told = {
            "reward_chosen": (float(chosen.sum()), rows),
            "reward_rejected": (float(rejected.sum()), rows),
            "margin": (float((chosen - rejected).sum()), rows),
            "accuracy": (float((chosen > rejected).sum()), rows),
        }
        return self.loss(first, second)

    def facts(self, items: Sequence[PreferItem], batches: Sequence[PreferBatch]) -> Facts:  # noqa: ARG002
        """Return rewards, margin and accuracy of the step's rows, as the pass found them before the weights moved."""
        kto = ("reward_good", "reward_bad", "baseline")
        names = kto if isinstance(self.loss, Kto) else ("reward_chosen", "reward_rejected", "margin", "accuracy")
        told = {name: [batch.told[name] for batch in batches] for name in names}
        return {name: (sum(part for part, _ in parts), sum(of for _, of in parts)) for name, parts in told.items()}

    def audit(self, items: Sequence[PreferItem], built: Built) -> list[str]:
        """Show the end of the prompt and both answers of two rows.

        Raises:
            DataError: no row is left, or answers do not end with the end of the turn.
        """
        eos = built.tokenizer.eos_token_id
        faulty = [item.id for item in items if any(answer[-1:] != (eos,) for answer in item.answers)]
        if faulty:
            raise DataError(f"{len(faulty)} rows have an answer without an end of turn: {', '.join(faulty[:5])}")
        decode, lines = built.tokenizer.decode, []
        for item in items[:2]:
            first, second = (decode(answer) for answer in item.answers)
            lines.append(f"…{decode(item.prompt[-12:])!r}")
            if isinstance(self.loss, Kto):
                lines += [f"  {'good' if item.good else 'bad'}: {first!r}", f"  of another prompt: {second!r}"]
            else:
                lines += [f"  chosen: {first!r}", f"  rejected: {second!r}"]
        return lines

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Any], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return the margin of each row's rewards; of a thumb, how far its reward is on the right side of z0.

        Raises:
            DataError: another kind is asked for, or a row cannot be read.
        """
        if reads != "margins":
            refuse_predictions(self, reads)
        encoded = self.encode(rows, built)
        items = encoded.items
        if len(items) < len(rows):
            left_out = ", ".join(f"{reason}: {count}" for reason, count in encoded.notes.items())
            raise DataError(f"not every row has a margin ({left_out}); raise task.max_tokens, or leave such rows out")
        progress("reading answers", 0, 1)
        logps = _flat(model, items)
        lengths = [len(answer) for item in items for answer in item.answers]
        first, second = _sides(logps, self._reference(model, built, items, logps), lengths)
        if isinstance(self.loss, Kto):
            gaps = self.loss.rewards(first) - self.loss.baseline(second)
            return [gap if item.good else -gap for gap, item in zip(gaps.tolist(), items, strict=True)]
        assert isinstance(self.loss, Prefers)
        margins: list[Any] = (self.loss.rewards(first) - self.loss.rewards(second)).tolist()
        return margins

    def references(self, rows: Sequence[Any]) -> list[Any]:
        """Return which answer each row prefers."""
        return [row.chosen if isinstance(row, Preference) else row.label for row in rows]

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Any]) -> float:
        """Score the rows that are not left out.

        Raises:
            DataError: all are.
        """
        kept = {item.id for item in self.encode(rows, built).items}
        if not kept:
            raise DataError(f"no dev row is left of {len(rows)}: all have more than {self.max_tokens} tokens")
        return super().dev_score(model, built, [row for row in rows if row.id in kept])

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer, and the name of the model it was trained from."""
        save_network(model, built.tokenizer, folder)
        if self._needs_reference and built.model in _names:
            write_origin(folder, _names[built.model][0])

    @property
    def _needs_reference(self) -> bool:
        return isinstance(self.loss, Kto) or (isinstance(self.loss, Prefers) and self.loss.needs_reference)

    def _reference(self, model: nn.Module, built: Built, items: Sequence[PreferItem], logps: Tensor) -> Tensor:
        """Return what the answers are compared with: kept while the model trains, else computed by its origin."""
        if not self._needs_reference:
            return torch.zeros_like(logps)
        keys = [key for item in items for key in item.keys]
        if has_reference(model, keys):
            return reference_logps(model, keys).to(logps)
        name, origin = _names[built.model]
        if origin == name:
            return logps
        weight = next(model.parameters())
        before = load_writer(origin, dtype=torch.float32)[0].eval().to(weight.device)
        with rounded(before, weight.dtype):
            return _flat(before, items).to(logps)


def _flat(model: nn.Module, items: Sequence[PreferItem]) -> Tensor:
    """Return (answers,) log-probabilities, two a row."""
    rows = logps_of(model, [item.branches for item in items], apart=items[0].apart)
    return torch.tensor([value for row in rows for value in row])


def _sides(logps: Tensor, reference: Tensor, lengths: Sequence[int]) -> tuple[Answers, Answers]:
    """Return the first answers of all rows, and the second ones."""
    first, second = (as_answers(logps, reference, lengths, slice(side, None, 2)) for side in (0, 1))
    return first, second


_Row = tuple[str, tuple[int, ...], list[tuple[int, ...]], bool]


def _mismatched(rows: Sequence[_Row]) -> list[_Row]:
    """Give each answer the next one that belongs to another prompt, which is read behind this row's prompt.

    Which one that is depends on the rows alone, so that what the model thought of it before is computed once too.

    Raises:
        DataError: all rows have the same prompt.
    """
    found: list[_Row] = []
    for place, (name, prompt, answers, good) in enumerate(rows):
        further = (step % len(rows) for step in range(place + 1, place + len(rows)))
        other = next((step for step in further if rows[step][1] != prompt and rows[step][2][0] != answers[0]), None)
        if other is None:
            raise DataError(
                f"row {name!r}: no answer to another prompt is there, against which kto measures; its rows need "
                "different prompts and different answers"
            )
        found.append((name, prompt, [answers[0], rows[other][2][0]], good))
    return found
