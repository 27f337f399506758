"""Texts as one vector a token: a transformer, a projection, unit length, and which tokens are compared."""

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import punctuation
from typing import Any, NamedTuple

import torch
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import Tensor, nn
from torch.nn import functional

from burnish.errors import ModelError
from burnish.models.dropout import still
from burnish.models.encode import Encoder, tokens_at_once
from burnish.models.late_folder import LateFormat, read_late_layout, write_late_layout
from burnish.models.load import load_transformer, resolve
from burnish.models.loading import loading
from burnish.models.maxsim import Packed
from burnish.models.merge import merged
from burnish.models.packing import micro_batches
from burnish.models.quiet import quiet
from burnish.models.safety import require_weights
from burnish.models.sentence_folder import read_layout
from burnish.models.unpadded import padding_computed
from burnish.text import fingerprint

PUNCTUATION = tuple(punctuation)
PROJECTION = "projection"


class Row(NamedTuple):
    """A text as the network reads it."""

    ids: tuple[int, ...]
    attended: int  # the first so many tokens are seen by all; the rest see them, and are seen by none
    compared: tuple[bool, ...]  # which tokens get a vector


class LateEncoder(nn.Module):
    """A late-interaction model (ColBERT, Khattab & Zaharia 2020, arXiv 2004.12832): a unit vector for each token."""

    def __init__(self, encoder: Encoder, *, form: LateFormat, projection: nn.Linear | None = None) -> None:
        """Put the parts together; `load` reads them from a folder. encoder: its pooling is not used."""
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.saved = False  # it was loaded as a late-interaction model, with a projection or knowingly without
        self.read_by(form)

    @classmethod
    def load(cls, name: str, *, dtype: torch.dtype) -> "LateEncoder":
        """Load a late-interaction model for inference; of another encoder, the token vectors as they are.

        Raises:
            ModelError: it cannot be found or loaded, or does something that burnish would leave out.
        """
        reading = read_late_layout(resolve(name))
        folder, transformer, tokenizer = load_transformer(name, dtype=dtype)
        form = LateFormat(**read_layout(folder).form.model_dump()) if reading is None else reading.form
        encoder = Encoder(transformer, tokenizer, pooling="mean", form=form)
        projection = None
        if reading and reading.projection:
            projection = _load_projection(name, reading.projection, encoder.width).to(dtype)
        most = {key: min(getattr(form, key), encoder.longest) for key in ("query_tokens", "passage_tokens")}
        late = cls(encoder, form=form.model_copy(update=most), projection=projection)
        late.saved = reading is not None
        return late.eval()

    @property
    def config(self) -> Any:
        """The transformer's configuration; methods and libraries look for it here."""
        return self.encoder.config

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of queries and passages."""
        return self.encoder.tokenizer

    @property
    def width(self) -> int:
        """Dimensions of a token's vector."""
        return self.encoder.width if self.projection is None else int(self._matrix.shape[0])

    @property
    def format(self) -> LateFormat:
        """How texts are read."""
        return self._format

    def read_by(self, form: LateFormat) -> None:
        """Read texts by another format from now on.

        A prefix whose first word is one entry of the vocabulary, such as `[unused0]`, is read as that token.

        Raises:
            ModelError: queries are to be filled up, and the tokenizer has no such token.
        """
        self._format = self.encoder.format = form
        tokenizer, known = self.tokenizer, self.tokenizer.get_vocab()
        starts = [prefix.split()[0] for prefix in (form.query_prefix, form.passage_prefix) if prefix.strip()]
        markers = [word for word in starts if word in known and tokenizer.tokenize(word) != [word]]
        if markers:
            tokenizer.add_tokens([AddedToken(word, normalized=False) for word in markers], special_tokens=True)
        self._skipped = {known[word] for word in form.skipped_words if word in known}
        if form.expansion_token is not None:
            self._filler = known.get(form.expansion_token)
        else:
            self._filler = tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
        if form.expand_to and self._filler is None:
            raise ModelError(
                f"{tokenizer.name_or_path}: queries are to be filled up to {form.expand_to} tokens, and the tokenizer "
                f"has no {form.expansion_token or 'mask token'}"
            )

    def project(self, width: int, *, seed: int) -> None:
        """Put a fresh projection without bias behind the transformer, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(self.encoder.width, width, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **asked: Any) -> Any:
        """Return the transformer's own output, its hidden states among it where they are asked for."""
        return self.encoder.transformer(input_ids=input_ids, attention_mask=attention_mask, **asked)

    def query_rows(self, ids: Sequence[Sequence[int]]) -> list[Row]:
        """Return queries as the network reads them, filled up with mask tokens where the format says so."""
        rows = []
        for row in ids:
            filled = (*row, *[self._filler] * (self.format.expand_to - len(row)))
            attended = len(filled) if self.format.attend else len(row)
            rows.append(Row(filled, attended, (True,) * len(filled)))
        return rows

    def passage_rows(self, ids: Sequence[Sequence[int]]) -> list[Row]:
        """Return passages as the network reads them; tokens that the format skips get no vector."""
        return [Row(tuple(row), len(row), tuple(token not in self._skipped for token in row)) for row in ids]

    def embed(self, rows: Sequence[Row], *, tokens_per_pass: int | None = None) -> Packed:
        """Return the vectors of the compared tokens in fp32, in the order given; gradients flow where enabled.

        tokens_per_pass: padded tokens that one pass holds; what suits the device where none is given.
        """
        lengths = torch.tensor([sum(row.compared) for row in rows], dtype=torch.long)
        if not rows:
            return Packed(torch.zeros(0, self.width), lengths)
        groups = self._groups(rows, tokens_per_pass)
        vectors = torch.cat([self._pass([rows[row] for row in group]) for group in groups])
        order = torch.tensor([row for group in groups for row in group])
        firsts = torch.empty_like(lengths)
        firsts[order] = lengths[order].cumsum(0) - lengths[order]
        inside = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        places = firsts.repeat_interleave(lengths) + inside
        return Packed(vectors[places.to(vectors.device)], lengths)

    @torch.no_grad()
    def stream(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Packed]]:
        """Yield some rows' places and their vectors on the processor, until all are done; dropout is off."""
        with still(self):
            for group in self._groups(rows, None):
                lengths = torch.tensor([sum(rows[row].compared) for row in group])
                yield group, Packed(self._pass([rows[row] for row in group]).cpu(), lengths)

    def encode_queries(self, texts: Sequence[str]) -> Packed:
        """Return the vectors of queries, as `format.query` returns these, on the processor; dropout is off."""
        ids, _ = self.encoder.tokenize(texts, max_tokens=self.format.query_tokens)
        return self._encode(self.query_rows(ids), lambda _done, _all: None)

    def encode_passages(
        self, texts: Sequence[str], *, progress: Callable[[int, int], None] = lambda _done, _all: None
    ) -> Packed:
        """Return the vectors of passages, as `format.passage` returns these, on the processor; dropout is off.

        progress: called with how many texts are done, and how many there are.
        """
        ids, _ = self.encoder.tokenize(texts, max_tokens=self.format.passage_tokens)
        return self._encode(self.passage_rows(ids), progress)

    def save(self, folder: Path) -> None:
        """Write a folder that `sentence_transformers.MultiVectorEncoder` loads with equal scores.

        Weights are written in fp32, LoRA updates merged into them.
        """
        whole: Any = merged(copy.deepcopy(self).float())
        tokenizer = whole.tokenizer
        tokenizer.backend_tokenizer.no_truncation()  # of the last call, which would be written as its setting
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.padding_side = "right"  # where the fill of short queries stands
        network = whole.encoder.transformer
        with quiet():
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        projection = whole.projection
        write_late_layout(
            folder,
            self.format,
            shape=tuple(projection.weight.shape) if projection is not None else None,
            pooler_left_out="pooler" in dict(network._modules),
        )
        if projection is not None:
            weight = projection.weight.detach().cpu().contiguous()
            save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors", metadata={"format": "pt"})

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name these weights and this way of reading texts."""
        own = "" if self.projection is None else self._matrix.detach().cpu().float().numpy().tobytes().hex()
        return fingerprint("late", self.encoder.fingerprint(), own)

    @property
    def _matrix(self) -> Tensor:
        layer: Any = self.projection
        if isinstance(layer, ModulesToSaveWrapper):
            layer = layer.modules_to_save[layer.active_adapters[0]]
        weight: Tensor = layer.weight
        return weight

    def _encode(self, rows: Sequence[Row], progress: Callable[[int, int], None]) -> Packed:
        lengths = torch.tensor([sum(row.compared) for row in rows], dtype=torch.long)
        vectors = torch.empty(int(lengths.sum()), self.width)
        parts, done = torch.split(vectors, lengths.tolist()), 0
        for group, found in self.stream(rows):
            for row, text in zip(group, found.texts, strict=True):
                parts[row].copy_(text)
            done += len(group)
            progress(done, len(rows))
        return Packed(vectors, lengths)

    def _groups(self, rows: Sequence[Row], tokens_per_pass: int | None) -> list[list[int]]:
        """Return which rows go through the transformer together."""
        budget = tokens_per_pass or tokens_at_once(self.encoder)
        return micro_batches(range(len(rows)), [len(row.ids) for row in rows], budget=budget)

    def _pass(self, rows: Sequence[Row]) -> Tensor:
        """Return (compared tokens, width): the vectors of rows that are padded together, one behind the other."""
        device = next(self.encoder.parameters()).device
        width = max(len(row.ids) for row in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row.ids, *[pad] * (width - len(row.ids))] for row in rows]).to(device)
        compared = torch.tensor([[*row.compared, *[False] * (width - len(row.ids))] for row in rows]).to(device)
        attended = torch.tensor([row.attended for row in rows])
        mask = (torch.arange(width) < attended[:, None]).long().to(device)
        masked = bool((attended < width).any())
        filled = any(row.attended < len(row.ids) for row in rows)  # with tokens that see, and are seen by none
        with padding_computed(when=filled):
            hidden = self.encoder.transformer(input_ids=ids, attention_mask=mask if masked else None).last_hidden_state
        tokens = hidden[compared]
        vectors = tokens if self.projection is None else self.projection(tokens)
        return functional.normalize(vectors.float(), dim=-1)


def _load_projection(name: str, folder: Path, inputs: int) -> nn.Linear:
    """Return the projection whose weights a folder holds.

    Raises:
        ModelError: there are none, or they do not fit the transformer.
    """
    require_weights(folder, "model")
    with loading(name, "a late-interaction model"):
        weights = load_file(folder / "model.safetensors")
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    if [*shapes] != ["linear.weight"] or shapes["linear.weight"][1:] != (inputs,):
        raise ModelError(
            f"{folder}: a projection of {inputs} dimensions (linear.weight) is needed here, and this is {shapes}"
        )
    layer = nn.Linear(inputs, len(weights["linear.weight"]), bias=False)
    layer.weight = nn.Parameter(weights["linear.weight"])
    return layer
