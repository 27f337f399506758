"""Regression: a number for each text, or for each pair of texts."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from burnish.errors import DataError, ModelError, RecipeError
from burnish.losses import Loss
from burnish.losses.huber import Huber
from burnish.losses.mse import Mse
from burnish.metrics import Metric
from burnish.models.load import load_regressor
from burnish.models.packing import micro_batches
from burnish.models.padding import network_inputs, pad_right
from burnish.models.save import save_network
from burnish.records import Record, Scored
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions

PASS_TOKENS = 8192  # padded tokens in one forward pass where no gradient is needed


@dataclass(frozen=True, slots=True)
class RegressItem:
    """A tokenized text or pair, and its score less the training scores' mean, in their standard deviations.

    types: 1 on the tokens of the second text, where the model tells the two apart by this; else empty.
    """

    id: str
    text: tuple[int, ...]
    types: tuple[int, ...]
    target: float

    @property
    def tokens(self) -> int:
        """Tokens of the text or of the pair."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class RegressBatch:
    """Texts padded on the right, and their standardised scores, (texts,)."""

    input_ids: Tensor
    attention_mask: Tensor
    types: Tensor | None
    targets: Tensor


class Regress(Task):
    """A number for each text, from a head of one output; the saved model gives it in the unit of the rows.

    While it trains, the head gives (score - mean) / standard deviation of the first rows that are encoded, which are
    the training rows; the config holds both. Saving puts them into the head's last layer, and building takes them out
    again. A head without a bias, as decoders have it, could not hold the mean: there it is 0, and the scores are
    divided by the root of their mean square. A head that was trained before keeps its unit, and trains on.
    """

    record: ClassVar[type[Record]] = Scored

    loss: Loss = Mse()
    metrics: tuple[Metric, ...] = Field(
        default_factory=lambda: tuple(map(Metric.read, ("spearman", "pearson", "rmse"))), min_length=1
    )
    max_tokens: int = Field(default=256, ge=4)  # what is longer is cut at the end, and counted

    @model_validator(mode="after")
    def _measures_distance(self) -> "Regress":
        """Check that the loss is one between numbers.

        Raises:
            RecipeError: it is another.
        """
        if not isinstance(self.loss, Mse | Huber):
            raise RecipeError(f"the loss of a regression is mse or huber, not {self.loss.kind}")
        return self

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the network with a head of one output, new or in the unit that it was trained for."""
        found = load_regressor(model, dtype=torch.float32, seed=seed)
        name, head = _last_layer(found.model)
        config, fresh = found.model.config, found.fresh
        known = config.to_dict()
        if fresh:
            mean, spread = 0.0, 0.0  # not yet known
        else:
            mean, spread = known.get("target_mean", 0.0), known.get("target_std") or 1.0
            _rescale(head, weight=1 / spread, bias=-mean / spread)
            head_name = name.removeprefix("base_model.model.").split(".")[0]  # PEFT's prefix, of an adapter's folder
            fresh = (f"{head_name}.",)  # an adapter must save it: it goes into the rows' unit again
        config.target_mean, config.target_std = mean, spread
        return Built(found.model, found.tokenizer, fresh=fresh)

    def encode(self, rows: Sequence[Scored], built: Built) -> Encoded:
        """Tokenize the texts; the first rows of a new head set mean and standard deviation."""
        network: Any = built.model
        if rows and not network.config.target_std:
            _set_scale([row.score for row in rows], built.model)
        mean, spread = _scale(built.model)
        read = [self._tokenized(row, built.tokenizer) for row in rows]
        typed = any(any(types) for _, types in read)
        items = [
            RegressItem(row.id, text, types if typed else (), (row.score - mean) / spread)
            for row, (text, types) in zip(rows, read, strict=True)
        ]
        cut = sum(item.tokens == self.max_tokens for item in items)
        return Encoded(items, {f"texts that fill all {self.max_tokens} tokens": cut} if cut else {})

    def collate(self, items: Sequence[RegressItem]) -> RegressBatch:
        """Pad on the right."""
        ids, mask = pad_right([item.text for item in items])
        types = pad_right([item.types for item in items])[0] if items[0].types else None
        return RegressBatch(ids, mask, types, torch.tensor([item.target for item in items]))

    def count(self, batch: RegressBatch) -> int:
        """Count the texts."""
        return len(batch.targets)

    def total_loss(self, model: nn.Module, batch: RegressBatch) -> Tensor:
        """Return the loss summed over the texts, in standard deviations of the training scores."""
        outputs = self._outputs(model, batch)
        assert isinstance(self.loss, Mse | Huber)
        return self.loss(outputs, batch.targets.to(outputs.device))

    def predict(self, model: nn.Module, items: Sequence[RegressItem]) -> list[float]:
        """Return each item's score in the unit of the rows, in the order given."""
        groups = micro_batches(range(len(items)), [item.tokens for item in items], budget=PASS_TOKENS)
        mean, spread = _scale(model)
        found = [0.0] * len(items)
        with torch.no_grad():
            for group in groups:
                outputs = self._outputs(model, self.collate([items[row] for row in group]))
                for row, output in zip(group, outputs.double().tolist(), strict=True):
                    found[row] = mean + spread * output
        return found

    def audit(self, items: Sequence[RegressItem], built: Built) -> list[str]:
        """Show three texts with their scores, and how the scores are standardised."""
        mean, spread = _scale(built.model)
        decode = built.tokenizer.decode
        shown = [f"{decode(item.text)} → {mean + spread * item.target:g}" for item in items[:3]]
        return [*shown, f"trained on (score - {mean:g}) / {spread:g}"]

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Scored], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return each row's score in the unit of the rows.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "answers":
            refuse_predictions(self, reads)
        progress("scoring", 0, 1)
        return list(self.predict(model, self.encode(rows, built).items))

    def references(self, rows: Sequence[Scored]) -> list[Any]:
        """Return each row's score."""
        return [row.score for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a transformers or PEFT folder with the tokenizer, whose outputs are in the unit of the rows."""
        with _in_the_rows_unit(model):
            save_network(model, built.tokenizer, folder)

    def _tokenized(self, row: Scored, tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the token ids of a row's text or pair, and which text each is of, as far as the tokenizer tells."""
        found = tokenizer(row.text, row.pair, truncation=True, max_length=self.max_tokens)
        return tuple(found["input_ids"]), tuple(found.get("token_type_ids", ()))

    @staticmethod
    def _outputs(model: nn.Module, batch: RegressBatch) -> Tensor:
        """Return (texts,) standardised scores in fp32."""
        logits: Tensor = model(**network_inputs(model, batch.input_ids, batch.attention_mask, batch.types)).logits
        return logits[:, 0].float()


def _set_scale(scores: Sequence[float], model: nn.Module) -> None:
    """Write mean and standard deviation of the training scores into the model's config.

    Raises:
        DataError: all scores are the same.
    """
    if max(scores) == min(scores):
        raise DataError(f"all {len(scores)} rows have the score {scores[0]:g}, so there is nothing to learn")
    network: Any = model
    mean = math.fsum(scores) / len(scores) if _last_layer(model)[1].bias is not None else 0.0
    network.config.target_mean = mean
    network.config.target_std = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))


def _scale(model: nn.Module) -> tuple[float, float]:
    """Return mean and standard deviation of the training scores; 0 and 1 where there were none yet."""
    network: Any = model
    return network.config.target_mean, network.config.target_std or 1.0


def _last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the layer that gives the number; of an adapter, the copy that is trained and saved.

    Raises:
        ModelError: there is no such layer, or more than one.
    """
    found = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == 1 and "original_module" not in name.split(".")
    ]
    if len(found) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(found)} linear layers of one output, and the one that gives the score "
            "is to be found; use another model"
        )
    return found[0]


@torch.no_grad()
def _rescale(layer: nn.Linear, *, weight: float, bias: float) -> None:
    """Make the layer give weight · output + bias."""
    layer.weight.copy_(layer.weight.double() * weight)
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() * weight + bias)


@contextmanager
def _in_the_rows_unit(model: nn.Module) -> Iterator[None]:
    """Let the last layer give scores in the unit of the rows for a while; afterwards it is as before, bit for bit."""
    layer = _last_layer(model)[1]
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    mean, spread = _scale(model)
    _rescale(layer, weight=spread, bias=mean)
    try:
        yield
    finally:
        layer.load_state_dict(before)
