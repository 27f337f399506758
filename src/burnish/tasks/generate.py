"""Generation: a causal model learns to write the completion after the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftModel
from torch import Tensor, nn

from burnish.errors import DataError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.models.load import load_causal
from burnish.models.packing import micro_batches
from burnish.models.quiet import quiet
from burnish.models.render import render
from burnish.records import Completion, Record
from burnish.tasks import Built, Encoded, Task

DEV_TOKENS = 8192  # padded tokens in one forward pass over the dev set


@dataclass(frozen=True, slots=True)
class GenerateItem:
    """A prompt and its completion, tokenized; the completion ends with the end of the turn."""

    id: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class GenerateBatch:
    """Rows padded on the right; `places` are flat positions whose next token is trained, `targets` those tokens."""

    input_ids: Tensor
    attention_mask: Tensor | None  # None where nothing is padded
    places: Tensor
    targets: Tensor


class Generate(Task):
    """Causal generation, trained on the completion alone: the prompt is read, never learned."""

    record: ClassVar[type[Record]] = Completion

    loss: CrossEntropy = CrossEntropy()
    max_tokens: int = 1024  # a longer row is left out, and counted: a cut one would teach half an answer

    def build(self, model: str, *, seed: int = 0) -> Built:  # noqa: ARG002
        """Load the causal model with its tokenizer and chat template."""
        network, tokenizer = load_causal(model, dtype=torch.float32)
        return Built(network, tokenizer)

    def encode(self, rows: Sequence[Completion], built: Built) -> Encoded:
        """Tokenize prompts and completions by the model's own template."""
        items, too_long = [], 0
        for row, (prompt, completion) in zip(rows, render(rows, built.tokenizer), strict=True):
            if len(prompt) + len(completion) > self.max_tokens:
                too_long += 1
            else:
                items.append(GenerateItem(row.id, tuple(prompt), tuple(completion)))
        return Encoded(items, {f"rows of more than {self.max_tokens} tokens left out": too_long} if too_long else {})

    def collate(self, items: Sequence[GenerateItem]) -> GenerateBatch:
        """Pad on the right, and note the position before each trained token."""
        width = max(item.tokens for item in items)
        input_ids = torch.zeros(len(items), width, dtype=torch.long)
        mask = torch.zeros(len(items), width, dtype=torch.long)
        places: list[int] = []
        for row, item in enumerate(items):
            input_ids[row, : item.tokens] = torch.tensor(item.prompt + item.completion)
            mask[row, : item.tokens] = 1
            first = row * width + len(item.prompt) - 1
            places += range(first, first + len(item.completion))
        padded = any(item.tokens < width for item in items)
        targets = torch.tensor([token for item in items for token in item.completion])
        return GenerateBatch(input_ids, mask if padded else None, torch.tensor(places), targets)

    def count(self, batch: GenerateBatch) -> int:
        """Count the trained tokens."""
        return len(batch.targets)

    def total_loss(self, model: nn.Module, batch: GenerateBatch) -> Tensor:
        """Return the cross-entropy summed over the trained tokens; the LM head sees their positions alone."""
        return self._sum(model, batch, self.loss)

    @staticmethod
    def _sum(model: nn.Module, batch: GenerateBatch, loss: CrossEntropy) -> Tensor:
        outer: Any = model
        network = outer.get_base_model() if isinstance(model, PeftModel) else outer
        device = next(network.parameters()).device
        mask = None if batch.attention_mask is None else batch.attention_mask.to(device)
        hidden = network.get_decoder()(
            input_ids=batch.input_ids.to(device), attention_mask=mask, use_cache=False
        ).last_hidden_state
        chosen = hidden.reshape(-1, hidden.shape[-1])[batch.places.to(device)]
        logits = network.get_output_embeddings()(chosen)
        return loss(logits, batch.targets.to(device))

    def audit(self, items: Sequence[GenerateItem], built: Built) -> list[str]:
        """Show the trained tokens of three rows.

        Raises:
            DataError: a row trains no token, or its trained tokens do not end with the end of the turn.
        """
        ends = {built.tokenizer.eos_token_id}
        faulty = [
            item.id for item in items if not item.prompt or not item.completion or item.completion[-1] not in ends
        ]
        if faulty:
            raise DataError(
                f"{len(faulty)} rows train no token or no end of turn, so the model could not learn to stop: "
                f"{', '.join(faulty[:5])}. Look at the model's chat template and its eos token"
            )
        decode = built.tokenizer.decode
        return [f"…{decode(item.prompt[-12:])!r} ⟶ trained: {decode(item.completion)!r}" for item in items[:3]]

    @property
    def dev_label(self) -> str:
        """Mean log-likelihood of a trained token: what the loss measures, with its sign turned."""
        return "log-likelihood a token"

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Completion]) -> float:
        """Return the mean log-likelihood of the rows' completion tokens.

        Raises:
            DataError: all rows are too long.
        """
        items = self.encode(rows, built).items
        if not items:
            raise DataError(f"no dev row is left: all {len(rows)} have more than {self.max_tokens} tokens")
        groups = micro_batches(range(len(items)), [item.tokens for item in items], budget=DEV_TOKENS)
        batches = [self.collate([items[row] for row in group]) for group in groups]
        plain = CrossEntropy()
        total = sum(self._sum(model, batch, plain).item() for batch in batches)
        return -total / sum(self.count(batch) for batch in batches)

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer."""
        network: Any = model
        with quiet():
            network.save_pretrained(folder)
            built.tokenizer.save_pretrained(folder)
