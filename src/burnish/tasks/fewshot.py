"""Few-shot learning by choices: a model that writes ranks what may follow a prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from burnish.choice_rows import Choice, Template
from burnish.errors import DataError, RecipeError
from burnish.losses import Loss
from burnish.losses.t_few import TFew
from burnish.metrics import Guess, Metric
from burnish.models.answers_apart import shared_beginning
from burnish.models.completions import (
    CompletionBatch,
    collate_behind,
    collate_branches,
    collate_branches_apart,
    completion_logps,
    is_apart,
)
from burnish.models.dropout import still
from burnish.models.load import load_writer
from burnish.models.packing import micro_batches
from burnish.models.render import prompt_ids, render
from burnish.models.save import save_network
from burnish.models.segments import is_packed
from burnish.prepare.balance import labels_to_learn
from burnish.records import Completion, Labelled, Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Sampler, Task, refuse_predictions
from burnish.text import fingerprint

PASS_TOKENS = 4096  # in one forward pass where no gradient is needed
WORTH = 8  # tokens that prompts begin with alike, from which on they are read once


@dataclass(frozen=True, slots=True)
class FewshotItem:
    """A row's prompts, one for each template, and its choices, tokenized; which one is right, counted from 0."""

    id: str
    prompts: tuple[tuple[int, ...], ...]
    choices: tuple[tuple[tuple[int, ...], ...], ...]  # of each prompt
    right: int
    apart: bool  # the prompt is read by an encoder of its own

    @property
    def tokens(self) -> int:
        """Tokens of the first prompt, which is read once, and of all its choices."""
        return len(self.prompts[0]) + sum(map(len, self.choices[0]))


@dataclass(frozen=True, slots=True)
class FewshotBatch:
    """Prompts with their choices; counts: choices of each row; right: (rows,), the right one's number."""

    completions: CompletionBatch
    counts: tuple[int, ...]
    right: Tensor


class Fewshot(Task):
    """Few rows, by T-Few's recipe (Liu et al. 2022, arXiv 2205.05638): no new head, the right choice's words win.

    Rows are prompts with choices or, with `templates`, texts with labels, which each template asks about in words of
    its own: a step draws one of them for each row; rows are scored by the first. A prompt is read once for all its
    choices. The prediction is the choice of the highest mean ln probability a token.
    choices: how many a training row compares, the right one among them, drawn anew in each step; None: all.
    """

    loss: Loss = TFew()
    templates: tuple[Template, ...] = ()
    labels: tuple[str, ...] = ()  # with templates; none: those of the training rows, in alphabetical order
    choices: int | None = Field(default=8, ge=2)
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: (Metric.read("accuracy"), Metric.read({"kind": "f1", "average": "macro"})), min_length=1
    )
    max_tokens: int = 1024  # of a prompt with its longest choice; a longer row is an error, which names it

    @model_validator(mode="after")
    def _ranks_choices(self) -> "Fewshot":
        """Check that the loss is one of choices, and that labels have templates.

        Raises:
            RecipeError: it is another, or labels stand alone.
        """
        if not isinstance(self.loss, TFew):
            raise RecipeError(f"the loss of fewshot is t_few, not {self.loss.kind}")
        if self.labels and not self.templates:
            raise RecipeError("labels are for rows of texts with labels, which templates ask about; give `templates`")
        return self

    @property
    def record(self) -> type[Record]:  # type: ignore[override]
        """Texts with labels where there are templates, else prompts with choices."""
        return Labelled if self.templates else Choice

    def settled(self, rows: Sequence[Any]) -> "Fewshot":
        """Return the task with the labels of the rows, where the recipe lists none.

        Raises:
            DataError: the rows have fewer than two.
        """
        if not self.templates or self.labels:
            return self
        return Fewshot.model_validate({**self.model_dump(), "labels": labels_to_learn(rows)})

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the model with its tokenizer and chat template."""
        return Built(*load_writer(model, dtype=torch.float32))

    def encode(self, rows: Sequence[Any], built: Built) -> Encoded:
        """Tokenize prompts and choices by the model's own template, each different choice once.

        Raises:
            DataError: a row cannot be asked about, or is too long.
        """
        items = list(self._items(rows, built))
        longest = [max(map(len, prompt)) for prompt in (item.prompts for item in items)]
        over = [
            item.id
            for item, length in zip(items, longest, strict=True)
            if length + max(len(choice) for own in item.choices for choice in own) > self.max_tokens
        ]
        if over:
            raise DataError(
                f"{len(over)} rows and their longest choice have over {self.max_tokens} tokens (task.max_tokens): "
                f"{', '.join(over[:5])}"
            )
        return Encoded(items, {})

    def _items(self, rows: Sequence[Any], built: Built) -> Iterator[FewshotItem]:
        apart = is_apart(built.model)
        asked = [self._asked(row) for row in rows]
        if not built.tokenizer.chat_template:
            asked = [[_plain(choice) for choice in own] for own in asked]
        flat = [choice for own in asked for choice in own]
        prompts = iter(prompt_ids([choice.prompt for choice in flat], built.tokenizer, apart=apart))
        first: dict[str, Choice] = {}  # of each text, a row that says it
        for choice in flat:
            for text in choice.choices:
                first.setdefault(text, choice)
        told = [Completion(id=choice.id, prompt=choice.prompt, completion=text) for text, choice in first.items()]
        ids = {
            text: tuple(own) for text, (_, own) in zip(first, render(told, built.tokenizer, apart=apart), strict=True)
        }
        for row, own in zip(rows, asked, strict=True):
            yield FewshotItem(
                row.id,
                tuple(tuple(next(prompts)) for _ in own),
                tuple(tuple(ids[text] for text in choice.choices) for choice in own),
                own[0].choices.index(own[0].answer),
                apart,
            )

    def _asked(self, row: Any) -> list[Choice]:
        return [template.choice(row, self.labels) for template in self.templates] if self.templates else [row]

    def sampler(self, model: nn.Module, built: Built, items: Sequence[FewshotItem], *, seed: int) -> Sampler:  # noqa: ARG002
        """Return what draws a template for each of a step's rows, and the wrong choices that it compares."""

        def drawn(step: int, rows: Sequence[int]) -> list[FewshotItem]:
            return [self._drawn(items[row], Random(fingerprint(str(seed), str(step), str(row)))) for row in rows]

        return drawn

    def _drawn(self, item: FewshotItem, chance: Random) -> FewshotItem:
        template = chance.randrange(len(item.prompts))
        count = len(item.choices[template])
        wrong = [number for number in range(count) if number != item.right]
        if self.choices is not None and self.choices < count:
            wrong = chance.sample(wrong, self.choices - 1)
        kept = sorted([item.right, *wrong])
        choices = tuple(item.choices[template][number] for number in kept)
        return replace(item, prompts=(item.prompts[template],), choices=(choices,), right=kept.index(item.right))

    def collate(self, items: Sequence[FewshotItem]) -> FewshotBatch:
        """Put all first prompts, each with its choices, into one row, or into an encoder's and a decoder's.

        Of a row, what its prompts begin with alike, the system's message for example, is read once.
        """
        rows = [(item.prompts[0], item.choices[0]) for item in items]
        alike = 0 if items[0].apart else _alike(items)
        if items[0].apart:
            completions = collate_branches_apart(rows)
        elif alike:
            beginning = rows[0][0][:alike]
            completions = collate_behind(beginning, [(prompt[alike:], choices) for prompt, choices in rows])
        else:
            completions = collate_branches(rows)
        counts = tuple(len(item.choices[0]) for item in items)
        return FewshotBatch(completions, counts, torch.tensor([item.right for item in items]))

    def micro_batches(
        self, model: nn.Module, rows: Sequence[int], tokens: Sequence[int], *, budget: int
    ) -> list[list[int]]:
        """Cut a step's rows into groups that are read at once, counting padding only where the model needs it."""
        return micro_batches(rows, tokens, budget=budget, padded=not is_packed(model))

    def count(self, batch: FewshotBatch) -> int:
        """Count the rows."""
        return len(batch.right)

    def total_loss(self, model: nn.Module, batch: FewshotBatch) -> Tensor:
        """Return the loss summed over the rows."""
        assert isinstance(self.loss, TFew)
        each = torch.split(completion_logps(model, batch.completions), batch.completions.lengths)
        rows = iter(each)
        own = [pad_sequence([*islice(rows, count)], batch_first=True) for count in batch.counts]
        shape = (max(batch.counts), max(part.shape[1] for part in own))
        logps_rct = torch.stack(
            [nn.functional.pad(part, (0, shape[1] - part.shape[1], 0, shape[0] - part.shape[0])) for part in own]
        )
        lengths = iter(batch.completions.lengths)
        tokens = [torch.tensor([*islice(lengths, count)]) for count in batch.counts]
        tokens_rc = pad_sequence(tokens, batch_first=True).to(logps_rct.device)
        return self.loss(logps_rct, tokens_rc, batch.right.to(logps_rct.device))

    def audit(self, items: Sequence[FewshotItem], built: Built) -> list[str]:
        """Show two rows: the end of each prompt, and the choices, the right one first."""
        decode, lines = built.tokenizer.decode, []
        for item in items[:2]:
            lines += [f"…{decode(prompt[-24:])!r}" for prompt in item.prompts]
            said = [decode(choice) for choice in item.choices[0]]
            others = [text for number, text in enumerate(said) if number != item.right]
            lines.append(f"  {said[item.right]!r}, and not {', '.join(map(repr, others[:5]))}")
        return lines

    def ranked(self, model: nn.Module, items: Sequence[FewshotItem], progress: Progress) -> list[list[float]]:
        """Return for each item the mean ln probability a token of each of its choices, by its first prompt.

        Where prompts begin alike, with the same examples, that is read once in each pass.
        """
        found: list[list[float]] = [[] for _ in items]
        done, alike = 0, _alike(items) if is_packed(model) else 0
        sizes = [item.tokens - alike for item in items]
        for group in self.micro_batches(model, range(len(items)), sizes, budget=PASS_TOKENS):
            batch = self.collate([items[place] for place in group])
            with torch.no_grad(), still(model):
                each = torch.split(completion_logps(model, batch.completions), batch.completions.lengths)
            means = iter([logps.float().mean().item() for logps in each])
            for place, count in zip(group, batch.counts, strict=True):
                found[place] = [*islice(means, count)]
            done += len(group)
            progress("ranking choices", done, len(items))
        return found

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Any], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return each row's label or choice (`answers`), or with its share of a softmax over the means (`guesses`).

        Raises:
            DataError: another kind is asked for.
        """
        if reads not in ("answers", "guesses"):
            refuse_predictions(self, reads)
        means = self.ranked(model, self.encode(rows, built).items, progress)
        found = []
        for row, own in zip(rows, means, strict=True):
            names = self.labels if self.templates else row.choices
            best = max(range(len(own)), key=lambda number: own[number])
            share = torch.tensor(own).softmax(dim=0)[best].item()
            found.append(Guess(names[best], share) if reads == "guesses" else names[best])
        return found

    def references(self, rows: Sequence[Any]) -> list[Any]:
        """Return each row's label, or its right choice."""
        return [row.label if self.templates else row.answer for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        save_network(model, built.tokenizer, folder)


def _alike(items: Sequence[FewshotItem]) -> int:
    """Return how many first tokens are read once for all first prompts, each of which has one of its own."""
    prompts = [item.prompts[0] for item in items]
    alike = min(shared_beginning(prompts), min(map(len, prompts), default=0) - 1)
    return alike if len(items) > 1 and alike >= WORTH else 0


def _plain(choice: Choice) -> Choice:
    """Return a choice whose prompt is plain text, of one whose prompt is a user's only message."""
    if isinstance(choice.prompt, str) or len(choice.prompt) > 1:
        return choice
    return choice.model_copy(update={"prompt": f"{choice.prompt[0].content}\n"})
