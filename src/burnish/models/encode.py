"""Texts as vectors: a transformer, pooling, unit length, and the text format that belongs to them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from burnish.errors import ModelError
from burnish.models.load import load_transformer
from burnish.models.packing import micro_batches
from burnish.text import TextFormat

Pooling = Literal["mean", "cls", "last"]
TOKENS_PER_PASS = 8192  # padded; fewer, larger passes repack the weights less often
_POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


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
    def load(cls, name: str, *, dtype: torch.dtype) -> "Encoder":
        """Load a sentence-transformers folder, or a plain transformer (mean pooling)."""
        path, transformer, tokenizer = load_transformer(name, dtype=dtype)
        return cls(transformer, tokenizer, pooling=_pooling(path), form=_format(path))

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return int(self.config.hidden_size)

    @property
    def config(self) -> Any:
        """The transformer's configuration; methods and libraries look for it here."""
        return self.transformer.config

    def tokenize(self, texts: Sequence[str], *, max_tokens: int) -> tuple[list[list[int]], int]:
        """Return the token ids of each text, cut at `max_tokens`, and how many were cut."""
        if not texts:
            return [], 0
        ids: list[list[int]] = self.tokenizer(
            list(texts), truncation=True, max_length=max_tokens + 1, return_attention_mask=False
        )["input_ids"]
        long = [place for place, row in enumerate(ids) if len(row) > max_tokens]
        if long:
            again = self.tokenizer([texts[place] for place in long], truncation=True, max_length=max_tokens)
            for place, row in zip(long, again["input_ids"], strict=True):
                ids[place] = row
        return ids, len(long)

    def embed(self, token_ids: Sequence[Sequence[int]], *, tokens_per_pass: int = TOKENS_PER_PASS) -> Tensor:
        """Return (rows, width) vectors in fp32, in the order given; gradients flow where they are enabled.

        Rows of similar length go through the transformer together: no token is padded further than its group needs.
        """
        lengths = [len(row) for row in token_ids]
        groups = micro_batches(range(len(token_ids)), lengths, budget=tokens_per_pass)
        vectors = torch.cat([self._pass([token_ids[row] for row in group]) for group in groups])
        order = torch.tensor([row for group in groups for row in group], device=vectors.device)
        return vectors[order.argsort()]

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> tuple[Tensor, int]:
        """Return (texts, width) vectors for texts that are formatted already, and how many texts were cut.

        Equal texts are encoded once.
        """
        unique = list(dict.fromkeys(texts))
        ids, cut = self.tokenize(unique, max_tokens=max_tokens)
        groups = micro_batches(range(len(ids)), [len(row) for row in ids], budget=TOKENS_PER_PASS)
        vectors = torch.empty(len(ids), self.width)
        done = 0
        for group in groups:
            vectors[group] = self._pass([ids[row] for row in group]).cpu()
            done += len(group)
            progress(done, len(ids))
        place = {text: row for row, text in enumerate(unique)}
        return vectors[[place[text] for text in texts]], cut

    def save(self, folder: Path) -> None:
        """Write a folder that `sentence_transformers.SentenceTransformer` loads with equal vectors."""
        network: Any = self.transformer
        network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        modes = {key: mode == self.pooling for key, mode in _POOLING_KEYS.items()}
        kinds = ("Transformer", "Pooling", "Normalize")
        modules = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(zip(("", "1_Pooling", "2_Normalize"), kinds, strict=True))
        ]
        prompts = {"query": self.format.query_prefix, "document": self.format.passage_prefix}
        longest = max(self.format.query_tokens, self.format.passage_tokens)
        files: dict[str, object] = {
            "modules.json": modules,
            "1_Pooling/config.json": {"word_embedding_dimension": self.width, **modes},
            "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
            "config_sentence_transformers.json": {"prompts": prompts, "similarity_fn_name": "cosine"},
            "burnish.json": self.format.model_dump(),
        }
        (folder / "2_Normalize").mkdir(exist_ok=True)
        for name, value in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name these weights and this way of reading texts."""
        digest = hashlib.sha256(f"{self.pooling} {self.format.model_dump_json()}".encode())
        for name, weight in sorted(self.transformer.named_parameters()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def _pass(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of rows that are padded together."""
        device = next(self.transformer.parameters()).device
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id or 0, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        padded = any(len(row) < width for row in rows)
        ids, mask = ids.to(device), mask.to(device)
        hidden = self.transformer(input_ids=ids, attention_mask=mask if padded else None).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0].float()
        elif self.pooling == "last":
            pooled = hidden[torch.arange(len(rows), device=device), mask.sum(dim=1) - 1].float()
        else:
            kept = mask[..., None].to(hidden.dtype)
            pooled = (hidden * kept).sum(dim=1, dtype=torch.float32) / mask.sum(dim=1, keepdim=True)
        return functional.normalize(pooled, dim=-1)


def _pooling(path: Path) -> Pooling:
    """Read how a sentence-transformers folder pools; mean, where the folder does not say.

    Raises:
        ModelError: it pools in another way.
    """
    file = path / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    found = json.loads(file.read_text(encoding="utf-8"))
    modes = [key for key, value in found.items() if key.startswith("pooling_mode_") and value is True]
    named = found.get("pooling_mode")
    if named in _POOLING_KEYS.values():
        return named  # type: ignore[no-any-return]
    if len(modes) != 1 or modes[0] not in _POOLING_KEYS:
        raise ModelError(f"{file}: pooling {modes or named} is not one of mean, cls, last")
    return _POOLING_KEYS[modes[0]]


def _format(path: Path) -> TextFormat:
    """Read the text format: our own file, else the prompts and length that sentence-transformers keeps."""
    if (path / "burnish.json").is_file():
        return TextFormat.model_validate_json((path / "burnish.json").read_text(encoding="utf-8"))
    file = path / "config_sentence_transformers.json"
    prompts = json.loads(file.read_text(encoding="utf-8")).get("prompts", {}) if file.is_file() else {}
    passage = next((prompts[key] for key in ("document", "passage", "corpus") if key in prompts), "")
    return TextFormat(query_prefix=prompts.get("query", ""), passage_prefix=passage)
