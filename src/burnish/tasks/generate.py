"""Generation: a model learns to write the completion of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from burnish.errors import DataError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.metrics import Metric
from burnish.models.completions import (
    CompletionBatch,
    collate_branches_apart,
    collate_turns,
    completion_logits,
    is_apart,
)
from burnish.models.decode import answers_to
from burnish.models.divergence import divergence
from burnish.models.load import load_writer
from burnish.models.packing import micro_batches
from burnish.models.render import Turns, render, render_turns
from burnish.models.save import save_network
from burnish.models.segments import is_packed
from burnish.models.start import at_start, remember_start
from burnish.models.teacher import Teacher
from burnish.records import Completion, Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

DEV_TOKENS = 8192  # tokens in one forward pass over the dev set


@dataclass(frozen=True, slots=True)
class GenerateItem:
    """A prompt and its completion, tokenized, or a conversation; each trained answer ends with the end of the turn."""

    id: str
    ids: tuple[int, ...]
    spans: tuple[range, ...]  # where the trained answers stand, the last one at the end
    apart: bool  # the prompt is read by an encoder of its own

    @property
    def tokens(self) -> int:
        """Tokens of the whole."""
        return len(self.ids)

    @property
    def prompt(self) -> tuple[int, ...]:
        """What stands before the last answer."""
        return self.ids[: self.spans[-1].start]

    @property
    def answers(self) -> list[tuple[int, ...]]:
        """The trained answers."""
        return [self.ids[span.start : span.stop] for span in self.spans]

    @property
    def completion(self) -> tuple[int, ...]:
        """The last answer."""
        return self.answers[-1]


class Generate(Task):
    """Text generation, trained on answers alone: what is asked is read, never learned. Any model that writes.

    kl_start: β of a pull to what the model said before, against forgetting: at each trained token the loss is
    loss + β·KL(P_start‖P), P over the whole vocabulary (as in learning without forgetting, Li & Hoiem 2016, arXiv
    1606.09282, at temperature 1). It costs a second forward pass.
    teacher: a larger model with the same tokenizer, whose distribution of each trained token is learned beside it.
    """

    record: ClassVar[type[Record]] = Completion

    loss: CrossEntropy = CrossEntropy()
    metrics: tuple[Metric, ...] = Field(default_factory=lambda: (Metric.read("perplexity"),))
    kl_start: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    teacher: Teacher | None = None
    watch: Literal["likelihood", "metric"] = "likelihood"  # what is scored while training; a metric writes every answer
    turns: Literal["every", "last"] = "every"  # of a conversation's answers, which are trained
    max_tokens: int = 1024  # a longer row is left out, and counted: a cut one would teach half an answer
    max_new_tokens: int = Field(default=128, ge=1)  # of an answer, when metrics have it written

    def begin(self, model: nn.Module) -> Sequence[Tensor]:
        """Remember the start, where the loss pulls towards it, and load the teacher."""
        if self.kl_start:
            remember_start(model)
        if self.teacher:
            self.teacher.begin(model)
        return ()

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the model with its tokenizer and chat template."""
        network, tokenizer = load_writer(model, dtype=torch.float32)
        return Built(network, tokenizer)

    def encode(self, rows: Sequence[Completion], built: Built) -> Encoded:
        """Tokenize prompts and completions by the model's own template."""
        apart = is_apart(built.model)
        several = sum(row.answers_from is not None for row in rows)
        if apart:
            found = [
                Turns([*prompt, *completion], (range(len(prompt), len(prompt) + len(completion)),))
                for prompt, completion in render(rows, built.tokenizer, apart=True)
            ]
        else:
            last = [row.model_copy(update={"answers_from": None}) for row in rows]
            found = render_turns(rows if self.turns == "every" else last, built.tokenizer)
        items = [
            GenerateItem(row.id, tuple(turns.ids), turns.spans, apart)
            for row, turns in zip(rows, found, strict=True)
            if len(turns.ids) <= self.max_tokens
        ]
        notes = {
            f"rows of more than {self.max_tokens} tokens left out": len(rows) - len(items),
            "conversations of which an encoder-decoder learns the last answer alone": several * apart,
        }
        return Encoded(items, {note: count for note, count in notes.items() if count})

    def collate(self, items: Sequence[GenerateItem]) -> CompletionBatch:
        """Put all prompts and completions into one row, or into an encoder's and a decoder's."""
        if items[0].apart:
            return collate_branches_apart([(item.prompt, (item.completion,)) for item in items])
        return collate_turns([(item.ids, item.spans) for item in items])

    def micro_batches(
        self, model: nn.Module, rows: Sequence[int], tokens: Sequence[int], *, budget: int
    ) -> list[list[int]]:
        """Cut a step's rows into groups that are read at once, counting padding only where the model needs it."""
        return micro_batches(rows, tokens, budget=budget, padded=not is_packed(model))

    def count(self, batch: CompletionBatch) -> int:
        """Count the trained tokens."""
        return len(batch.targets)

    def total_loss(self, model: nn.Module, batch: CompletionBatch) -> Tensor:
        """Return the loss summed over the trained tokens; the LM head sees their positions alone."""
        before = None
        if self.kl_start:
            with at_start(model) as start:
                before = completion_logits(start, batch)
        logits = completion_logits(model, batch)
        total = self.loss(logits, batch.targets.to(logits.device))
        if self.teacher:
            weight = self.teacher.weight
            total = (1 - weight) * total + weight * self.teacher.pull(model, batch, logits)
        return total if before is None else total + self.kl_start * divergence(before, logits)

    def audit(self, items: Sequence[GenerateItem], built: Built) -> list[str]:
        """Show the trained tokens of three rows.

        Raises:
            DataError: a row trains no token, or its trained tokens do not end with the end of the turn.
            ModelError: the teacher's tokens are others.
        """
        if self.teacher:
            self.teacher.require_same_tokens(built.model, built.tokenizer)
        end = built.tokenizer.eos_token_id
        faulty = [item.id for item in items if any(answer[-1:] != (end,) for answer in item.answers)]
        if faulty:
            raise DataError(
                f"{len(faulty)} rows train no token or no end of turn, so the model could not learn to stop: "
                f"{', '.join(faulty[:5])}. Look at the model's chat template and its eos token"
            )
        decode = built.tokenizer.decode
        lines = []
        for item in items[:3]:
            before = decode(item.ids[max(0, item.spans[0].start - 12) : item.spans[0].start])
            trained = " … ".join(repr(decode(answer)) for answer in item.answers)
            lines.append(f"…{before!r} ⟶ trained: {trained}")
        return lines

    @property
    def dev_label(self) -> str:
        """Mean log-likelihood of a trained token (the loss with its sign turned), or the first metric."""
        return "log-likelihood a token" if self.watch == "likelihood" else super().dev_label

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Completion]) -> float:
        """Return what `dev_label` says of the rows."""
        if self.watch == "metric":
            return super().dev_score(model, built, rows)
        pairs = self._likelihoods(model, self._items(rows, built))
        return -sum(nll for nll, _ in pairs) / sum(tokens for _, tokens in pairs)

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Completion], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return the text written after each prompt, or (negative log-likelihood, tokens) of each completion.

        Raises:
            DataError: another kind is asked for, or a row is too long to be read.
        """
        if reads == "likelihoods":
            items = self._items(rows, built)
            if len(items) < len(rows):
                raise DataError(
                    f"{len(rows) - len(items)} of {len(rows)} rows have more than {self.max_tokens} tokens, and a "
                    "likelihood of the others alone would be of other rows; raise task.max_tokens"
                )
            return list(self._likelihoods(model, items))
        if reads != "answers":
            refuse_predictions(self, reads)
        return answers_to(
            model,
            built.tokenizer,
            [row.prompt for row in rows],
            max_new_tokens=self.max_new_tokens,
            done=lambda done: progress("answering", done, len(rows)),
        )

    def references(self, rows: Sequence[Completion]) -> list[Any]:
        """Return the right answers of each row: its completion, and others where it has them."""
        return [(row.completion, *row.others) for row in rows]

    def _items(self, rows: Sequence[Completion], built: Built) -> list[GenerateItem]:
        """Return the rows that are not too long.

        Raises:
            DataError: all are.
        """
        items = list(self.encode(rows, built).items)
        if not items:
            raise DataError(f"no dev row is left: all {len(rows)} have more than {self.max_tokens} tokens")
        return items

    def _likelihoods(self, model: nn.Module, items: Sequence[GenerateItem]) -> list[tuple[float, int]]:
        """Return (negative log-likelihood, tokens) of each completion, in the order given."""
        groups = self.micro_batches(model, range(len(items)), [item.tokens for item in items], budget=DEV_TOKENS)
        found = [(0.0, 0)] * len(items)
        with torch.no_grad():
            for group in groups:
                batch = self.collate([items[row] for row in group])
                logits = completion_logits(model, batch).float()
                nll = functional.cross_entropy(logits, batch.targets.to(logits.device), reduction="none")
                parts = torch.split(nll, batch.lengths)
                for row, part in zip(group, parts, strict=True):
                    found[row] = (part.double().sum().item(), len(part))
        return found

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        save_network(model, built.tokenizer, folder)
