"""Texts as vectors: a transformer, pooling, unit length, and the text format that belongs to them."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from burnish.errors import ModelError
from burnish.models.dropout import still
from burnish.models.load import load_transformer
from burnish.models.merge import merged
from burnish.models.packing import micro_batches
from burnish.models.quiet import quiet
from burnish.models.sentence_folder import Pooling, Reading, read_layout, write_layout
from burnish.models.token_ids import TokenRows, cut_ids
from burnish.models.weight_digest import weights_digest
from burnish.text import TextFormat

TOKENS_PER_PASS = 2048  # padded; on a processor: 1024 is 3 % faster, 4096 6 % slower and 16384 30 % slower
TOKENS_PER_PASS_CUDA = 65536
HELD = 4 << 30  # bytes of activations that a step of training holds where nothing else is asked for


def tokens_at_once(network: nn.Module) -> int:
    """Return how many padded tokens a forward pass holds where nothing else is asked for: what suits the device."""
    return TOKENS_PER_PASS_CUDA if next(network.parameters()).is_cuda else TOKENS_PER_PASS


def tokens_held(network: Any) -> int:
    """Return of how many tokens 4 GiB hold the activations, by a layer's width and the number format.

    A layer keeps about 20 numbers for each that goes through it: MiniLM 46,000 tokens in bf16, BERT-base 11,600.
    """
    config, weight = network.config, next(network.parameters())
    numbers = 20 * int(config.num_hidden_layers) * int(config.hidden_size)
    return max(1, HELD // (numbers * int(weight.element_size())))


class Encoder(nn.Module):
    """A bi-encoder's tower: token ids in, vectors of unit length out."""

    def __init__(self, transformer: nn.Module, tokenizer: Any, *, pooling: Pooling, form: TextFormat) -> None:
        """Put the parts together; `load` reads them from a folder."""
        super().__init__()
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.format = form

    @classmethod
    def load(cls, name: str, *, dtype: torch.dtype, reading: Reading | None = None) -> "Encoder":
        """Load a sentence-transformers folder, or a plain transformer (mean pooling), for inference.

        reading: how it makes vectors of texts, where its own folder does not say.
        """
        folder, transformer, tokenizer = load_transformer(name, dtype=dtype)
        reading = reading or read_layout(folder)
        encoder = cls(transformer, tokenizer, pooling=reading.pooling, form=reading.form)
        encoder.format = reading.form.model_copy(
            update={
                "query_tokens": min(reading.form.query_tokens, encoder.longest),
                "passage_tokens": min(reading.form.passage_tokens, encoder.longest),
            }
        )
        encoder.eval()
        return encoder

    @property
    def queries(self) -> "Encoder":
        """The encoder of queries: this one, which reads passages too."""
        return self

    @property
    def passages(self) -> "Encoder":
        """The encoder of passages: this one, which reads queries too."""
        return self

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return int(self.config.hidden_size)

    @property
    def config(self) -> Any:
        """The transformer's configuration; methods and libraries look for it here."""
        return self.transformer.config

    @property
    def longest(self) -> int:
        """Tokens that the transformer can read at once, special tokens included."""
        places = self.config.to_dict().get("max_position_embeddings") or self.tokenizer.model_max_length
        return int(min(places, self.tokenizer.model_max_length))

    def read_by(self, form: TextFormat) -> None:
        """Read texts by another format from now on."""
        self.format = form

    def tokenize(self, texts: Sequence[str], *, max_tokens: int) -> tuple[TokenRows, int]:
        """Return the token ids of each text, cut at `max_tokens`, and how many texts were cut.

        Raises:
            ModelError: the model cannot read so many tokens at once.
        """
        if max_tokens > self.longest:
            raise ModelError(
                f"{self.tokenizer.name_or_path}: texts of up to {max_tokens} tokens are asked for, and this model "
                f"reads at most {self.longest}"
            )
        rows = TokenRows(cut_ids(texts, self.tokenizer, max_tokens=max_tokens))
        return rows, sum(rows.cut)

    def embed(self, token_ids: Sequence[Sequence[int]], *, tokens_per_pass: int | None = None) -> Tensor:
        """Return (rows, width) vectors in fp32, in the order given; gradients flow where they are enabled.

        Rows of similar length go through the transformer together: no token is padded further than its group needs.
        tokens_per_pass: padded tokens that one pass holds; what suits the device where none is given.
        """
        if not token_ids:
            return torch.zeros(0, self.width)
        groups = self._groups(token_ids, tokens_per_pass)
        vectors = torch.cat([self._pass([token_ids[row] for row in group]) for group in groups])
        order = torch.tensor([row for group in groups for row in group], device=vectors.device)
        return vectors[order.argsort()]

    def encode(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> tuple[Tensor, int]:
        """Return (texts, width) vectors in fp32 on the processor, and how many different texts were cut.

        texts: as `format.query` or `format.passage` returns them. Equal texts are encoded once; dropout is off.
        progress: called with how many texts are done, and how many there are.
        """
        unique = list(dict.fromkeys(texts))
        ids, cut = self.tokenize(unique, max_tokens=max_tokens)
        vectors = self.encode_ids(ids, progress=progress)
        place = {text: row for row, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]], cut

    def encode_ids(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> Tensor:
        """Return (texts, width) vectors in fp32 on the processor, of texts as `tokenize` returns them; dropout is off.

        progress: called with how many texts are done, and how many there are.
        """
        vectors = torch.empty(len(token_ids), self.width)
        done = 0
        with still(self):
            for group in self._groups(token_ids, None):
                with torch.inference_mode():
                    vectors[group] = self._pass([token_ids[row] for row in group]).cpu()
                done += len(group)
                progress(done, len(token_ids))
        return vectors

    def save(self, folder: Path) -> None:
        """Write a folder that `sentence_transformers.SentenceTransformer` loads with equal vectors.

        Weights are written in fp32, LoRA updates merged into them.
        """
        network: Any = merged(copy.deepcopy(self.transformer).float())
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.backend_tokenizer.no_truncation()  # of the last call, which would be written as its setting
        tokenizer.backend_tokenizer.no_padding()
        with quiet():
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        write_layout(
            folder,
            Reading(self.pooling, self.format),
            width=self.width,
            longest=self.longest,
            pooler_left_out="pooler" in dict(self.transformer._modules),
        )

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name these weights and this way of reading texts."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        read = f"{self.pooling} {self.format.model_dump_json()} {vocabulary}"
        return weights_digest(read, sorted(self.transformer.named_parameters()))

    def _groups(self, token_ids: Sequence[Sequence[int]], tokens_per_pass: int | None) -> list[list[int]]:
        """Return which rows go through the transformer together."""
        budget = tokens_per_pass or tokens_at_once(self.transformer)
        return micro_batches(range(len(token_ids)), [len(row) for row in token_ids], budget=budget)

    def _pass(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of rows that are padded together."""
        device = next(self.transformer.parameters()).device
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows]).to(device)
        mask = (torch.arange(width) < lengths[:, None]).to(device)
        padded = bool((lengths < width).any())
        hidden = self.transformer(input_ids=ids, attention_mask=mask.long() if padded else None).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0].float()
        elif self.pooling == "last":
            pooled = hidden[torch.arange(len(rows), device=device), lengths.to(device) - 1].float()
        else:
            total = (hidden * mask[..., None].to(hidden.dtype)).sum(dim=1, dtype=torch.float32)
            pooled = total / lengths[:, None].to(device)
        return functional.normalize(pooled, dim=-1)
