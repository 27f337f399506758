"""Continued pre-training: a model reads on in the user's documents, in the way it was pre-trained."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.random import PCG64, Generator
from peft import PeftModel
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from burnish.errors import DataError, ModelError
from burnish.metrics import Metric
from burnish.models.corrupt import hidden_count, hide_tokens, leave_out_spans, span_counts
from burnish.models.load import load_causal, load_masked, load_seq2seq
from burnish.models.packing import blocks, micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.quiet import quiet
from burnish.models.reading import Reading, kind_of, reading_of
from burnish.models.save import save_network
from burnish.models.token_ids import bare_ids
from burnish.records import Document, Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Encoded, Task, refuse_predictions
from burnish.text import fingerprint

PASS_TOKENS = 4096  # padded tokens of one forward pass; those of a batch are held together until it is backward
HEAD_TOKENS = 1024  # that the LM head scores at once: all of a batch by all of a vocabulary would be gigabytes
DEV_SEED = 0  # of what is hidden in the dev rows: always the same


@dataclass(frozen=True, slots=True)
class Segment:
    """A document, or a piece of a long one: no token of it sees a token of another segment.

    key: of what is hidden in it, together with a seed. units: how many of its tokens are trained.
    """

    ids: tuple[int, ...]
    key: int
    units: int


@dataclass(frozen=True, slots=True)
class PretrainItem:
    """A block: segments that together have at most so many tokens as a block has."""

    id: str
    segments: tuple[Segment, ...]
    reading: Reading

    @property
    def tokens(self) -> int:
        """Tokens of the segments, without padding."""
        return sum(len(segment.ids) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """The segments of all blocks; a forward pass holds those of similar length."""

    segments: tuple[Segment, ...]
    reading: Reading


class Pretrain(Task):
    """Continued pre-training on documents (Gururangan et al. 2020, arXiv 2004.10964); what is saved is a base again.

    Decoders learn every token of a document and its end. Encoders learn 15 % of the tokens, hidden as in BERT;
    encoder-decoders learn to write spans that were left out, as in T5: what is hidden is drawn anew at each step.
    Documents fill blocks of `block_tokens`, the unit of `training.batch`, and are read apart: there is no mask to pay
    for and nothing leaks from one into another. A longer document is cut; a decoder's next piece starts with the
    last token of the one before, so that no token goes untrained.
    """

    record: ClassVar[type[Record]] = Document
    saves_merged: ClassVar[bool] = True

    metrics: tuple[Metric, ...] = Field(default_factory=lambda: (Metric.read("perplexity"),), min_length=1)
    block_tokens: int = Field(default=512, ge=4)

    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the model with the head it was pre-trained with; an encoder that has lost it gets a new one.

        Raises:
            ModelError: the model cannot read so many tokens at once.
        """
        kind = kind_of(model)
        if kind == "masked":
            built = Built(*load_masked(model, dtype=torch.float32, seed=seed))
        else:
            built = Built(*(load_causal if kind == "causal" else load_seq2seq)(model, dtype=torch.float32))
        longest = longest_input(built.model, built.tokenizer)
        if self.block_tokens > longest:
            raise ModelError(
                f"{model}: blocks of {self.block_tokens} tokens are asked for, and this model reads at most {longest}"
            )
        return built

    def encode(self, rows: Sequence[Document], built: Built) -> Encoded:
        """Cut long documents into pieces, and put the pieces together into blocks."""
        reading = reading_of(built.model, built.tokenizer, self.block_tokens)
        segments: list[tuple[str, Segment]] = []
        long = short = 0
        for row, found in zip(rows, self._segments(rows, built, reading), strict=True):
            kept = [(row.id, segment) for segment in found if segment.units]
            long += len(found) > 1
            short += len(found) - len(kept) or not found
            segments += kept
        items = []
        for places in blocks([len(segment.ids) for _, segment in segments], size=self.block_tokens):
            names = [segments[place][0] for place in places]
            name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
            items.append(PretrainItem(name, tuple(segments[place][1] for place in places), reading))
        notes = {
            f"documents cut into pieces of {self.block_tokens} tokens": long,
            "documents or last pieces too short to learn from, left out": short,
        }
        return Encoded(items, {reason: count for reason, count in notes.items() if count})

    def collate(self, items: Sequence[PretrainItem]) -> PretrainBatch:
        """Put the blocks' segments together."""
        return PretrainBatch(tuple(segment for item in items for segment in item.segments), items[0].reading)

    def count(self, batch: PretrainBatch) -> int:
        """Count the trained tokens."""
        return sum(segment.units for segment in batch.segments)

    def total_loss(self, model: nn.Module, batch: PretrainBatch) -> Tensor:
        """Return the cross-entropy summed over the trained tokens.

        What is hidden in a segment is drawn from torch's seed, which the loop sets at every step from the run's, and
        from the segment itself: in any micro-batch the same, and another one at each step.
        """
        total = torch.zeros((), device=next(model.parameters()).device)
        for _, losses in _losses(model, batch, seed=torch.initial_seed()):
            total = total + losses.sum()
        return total

    def audit(self, items: Sequence[PretrainItem], built: Built) -> list[str]:
        """Show the start of three blocks' first segments, as they are read and what is learned of them."""
        decode = built.tokenizer.decode
        lines = []
        for item in items[:3]:
            seen, target = _shown(item.segments[0], item.reading)
            lines.append(f"{decode(seen[:24])!r} ⟶ trained: {decode(target[:24])!r}")
        segments = sum(len(item.segments) for item in items)
        full = sum(item.tokens for item in items) / (len(items) * self.block_tokens)
        trained = sum(segment.units for item in items for segment in item.segments)
        return [*lines, f"{len(items)} blocks of {segments} segments, {full:.0%} full, {trained} trained tokens"]

    @property
    def dev_label(self) -> str:
        """Mean log-likelihood of a trained token: what the loss measures, with its sign turned."""
        return "log-likelihood a token"

    def dev_score(self, model: nn.Module, built: Built, rows: Sequence[Document]) -> float:
        """Return the mean log-likelihood of the rows' tokens: of all, or of those that are hidden, always the same.

        Raises:
            DataError: no row has a token to tell.
        """
        found = self._likelihoods(model, built, rows)
        tokens = sum(count for _, count in found)
        if not tokens:
            raise DataError(f"no dev row is left: none of the {len(rows)} documents has a token to learn")
        return -sum(loss for loss, _ in found) / tokens

    def predictions(
        self, model: nn.Module, built: Built, rows: Sequence[Document], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return each document's negative log-likelihood in nats, and of how many tokens it is.

        Raises:
            DataError: another kind is asked for.
        """
        if reads != "likelihoods":
            refuse_predictions(self, reads)
        progress("reading", 0, 1)
        return list(self._likelihoods(model, built, rows))

    def references(self, rows: Sequence[Document]) -> list[Any]:
        """Return the documents' texts."""
        return [row.text for row in rows]

    def save(self, model: nn.Module, built: Built, folder: Path) -> None:
        """Write a plain transformers folder, LoRA's updates put into the weights; what cannot be, stays an adapter."""
        network: Any = model
        if isinstance(model, PeftModel) and not network.active_peft_config.is_prompt_learning:
            with quiet():
                network = copy.deepcopy(network).merge_and_unload()
        save_network(network, built.tokenizer, folder)

    def _segments(self, rows: Sequence[Document], built: Built, reading: Reading) -> Iterator[list[Segment]]:
        """Yield the pieces of each document; a blank one has none."""
        for row, ids in zip(rows, bare_ids([row.text for row in rows], built.tokenizer), strict=True):
            yield [_segment(piece, row.id, number, reading) for number, piece in enumerate(self._pieces(ids, reading))]

    def _pieces(self, ids: Sequence[int], reading: Reading) -> Iterator[tuple[int, ...]]:
        """Yield a document's tokens in pieces that fit into a block, special tokens included."""
        if not ids:
            return
        if reading.kind == "causal":
            whole = (*reading.prefix, *ids, reading.end)
            for begin in range(0, len(whole) - 1, self.block_tokens - 1):
                yield whole[begin : begin + self.block_tokens]
            return
        room = self.block_tokens - len(reading.prefix) - len(reading.suffix)
        for begin in range(0, len(ids), room):
            yield (*reading.prefix, *ids[begin : begin + room], *reading.suffix)

    def _likelihoods(self, model: nn.Module, built: Built, rows: Sequence[Document]) -> list[tuple[float, int]]:
        """Return (negative log-likelihood, trained tokens) of each document."""
        reading = reading_of(built.model, built.tokenizer, self.block_tokens)
        owned = [
            (place, segment)
            for place, found in enumerate(self._segments(rows, built, reading))
            for segment in found
            if segment.units
        ]
        found = [(0.0, 0)] * len(rows)
        batch = PretrainBatch(tuple(segment for _, segment in owned), reading)
        with torch.no_grad():
            for group, losses in _losses(model, batch, seed=DEV_SEED):
                parts = torch.split(losses.double().cpu(), [owned[place][1].units for place in group])
                for place, part in zip(group, parts, strict=True):
                    loss, tokens = found[owned[place][0]]
                    found[owned[place][0]] = (loss + part.sum().item(), tokens + len(part))
        return found


def _losses(model: nn.Module, batch: PretrainBatch, *, seed: int) -> Iterator[tuple[list[int], Tensor]]:
    """Yield, for segments of similar length, their places and the cross-entropy of each of their trained tokens."""
    sizes = [len(segment.ids) for segment in batch.segments]
    read = {"causal": _causal, "masked": _masked, "spans": _spans}[batch.reading.kind]
    for group in micro_batches(range(len(sizes)), sizes, budget=PASS_TOKENS):
        yield group, read(model, [batch.segments[place] for place in group], batch.reading, seed)


def _causal(model: nn.Module, segments: Sequence[Segment], reading: Reading, seed: int) -> Tensor:  # noqa: ARG001
    """Return (tokens,) cross-entropies of every token after the first; padding stands behind and is seen by none."""
    ids, mask = pad_right([segment.ids for segment in segments])
    outer: Any = model
    network = outer.get_base_model() if isinstance(model, PeftModel) else outer
    inputs = network_inputs(model, ids, mask)
    after = (mask[:, 1:] == 1).to(inputs["input_ids"].device)
    targets = inputs["input_ids"][:, 1:][after]
    soft = isinstance(model, PeftModel) and outer.active_peft_config.is_prompt_learning
    if reading.apart and not soft:  # soft tokens stand in calls of the whole model only
        hidden = network.get_decoder()(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state
        return _in_parts(network.get_output_embeddings(), hidden[:, :-1][after], targets)
    with quiet():  # PEFT asks transformers by names that are going to change
        logits = outer(**inputs, use_cache=False).logits[:, -ids.shape[1] :]  # without what soft tokens left
    return _each(logits[:, :-1][after], targets)


def _masked(model: nn.Module, segments: Sequence[Segment], reading: Reading, seed: int) -> Tensor:
    """Return (tokens,) cross-entropies of the hidden tokens."""
    drawn = [_hidden(segment, reading, seed) for segment in segments]
    ids, mask = pad_right([seen for seen, _ in drawn])
    rows = torch.tensor([row for row, (_, places) in enumerate(drawn) for _ in places])
    columns = torch.tensor([place for _, places in drawn for place in places])
    targets = torch.tensor([s.ids[place] for s, (_, places) in zip(segments, drawn, strict=True) for place in places])
    logits: Tensor = model(**network_inputs(model, ids, mask)).logits
    return _each(logits[rows, columns], targets.to(logits.device))


def _spans(model: nn.Module, segments: Sequence[Segment], reading: Reading, seed: int) -> Tensor:
    """Return (tokens,) cross-entropies of the left-out spans with their sentinels and the end."""
    drawn = [_left_out(segment, reading, seed) for segment in segments]
    ids, mask = pad_right([seen for seen, _ in drawn])
    targets, real = pad_right([target for _, target in drawn])
    before, _ = pad_right([[reading.start, *target[:-1]] for _, target in drawn])
    inputs = network_inputs(model, ids, mask)
    device = inputs["input_ids"].device
    logits: Tensor = model(**inputs, decoder_input_ids=before.to(device), use_cache=False).logits
    chosen = (real == 1).to(device)
    return _each(logits[chosen], targets.to(device)[chosen])


def _in_parts(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropies of (tokens, width) hidden states; the scores of few tokens are held at once."""

    def one(states: Tensor, right: Tensor) -> Tensor:
        return _each(head(states), right)

    if len(targets) <= HEAD_TOKENS:
        return one(hidden, targets)
    parts = [slice(begin, begin + HEAD_TOKENS) for begin in range(0, len(targets), HEAD_TOKENS)]
    return torch.cat(
        [checkpoint(one, hidden[p], targets[p], use_reentrant=False, preserve_rng_state=False) for p in parts]
    )


def _each(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, in fp32."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def _hidden(segment: Segment, reading: Reading, seed: int) -> tuple[list[int], list[int]]:
    allowed = [place for place, token in enumerate(segment.ids) if token not in reading.special]
    draw = Generator(PCG64([seed, segment.key]))
    return hide_tokens(segment.ids, allowed=allowed, mask=reading.mask, words=reading.words, draw=draw)


def _left_out(segment: Segment, reading: Reading, seed: int) -> tuple[list[int], list[int]]:
    draw = Generator(PCG64([seed, segment.key]))
    seen, target = leave_out_spans(segment.ids, sentinels=reading.sentinels, draw=draw)
    return [*seen, reading.end], [*target, reading.end]


def _shown(segment: Segment, reading: Reading) -> tuple[Sequence[int], Sequence[int]]:
    """Return the tokens that are read and those that are trained, where the dev seed hides."""
    if reading.kind == "causal":
        return segment.ids, segment.ids[1:]
    if reading.kind == "spans":
        return _left_out(segment, reading, DEV_SEED)
    seen, places = _hidden(segment, reading, DEV_SEED)
    return seen, [segment.ids[place] for place in places]


def _segment(ids: tuple[int, ...], name: str, number: int, reading: Reading) -> Segment:
    """Return a piece of a document with the number of its trained tokens."""
    key = int(fingerprint(name, str(number)), 16)
    if reading.kind == "causal":
        return Segment(ids, key, len(ids) - 1)
    if reading.kind == "spans":
        return Segment(ids, key, sum(span_counts(len(ids))) + 1 if len(ids) > 1 else 0)
    allowed = sum(token not in reading.special for token in ids)
    return Segment(ids, key, hidden_count(allowed) if allowed else 0)
