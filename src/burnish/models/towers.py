"""Two encoders in one vector space: one reads queries, and the other passages."""

import copy
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from burnish.errors import ModelError
from burnish.models.encode import Encoder
from burnish.models.load import resolve
from burnish.models.towers_folder import read_towers, write_towers_layout
from burnish.text import TextFormat, fingerprint


class Towers(nn.Module):
    """A bi-encoder whose towers share no weights (DPR, Karpukhin et al. 2020, arXiv 2004.04906).

    Each tower's format tells of its own texts alone, so that what names the passages' vectors (`Encoder.fingerprint`)
    stays when the queries' tower is trained or reads longer texts.
    """

    def __init__(self, queries: Encoder, passages: Encoder) -> None:
        """Take two encoders, each with its own way to read its texts.

        Raises:
            ModelError: their vectors have different widths.
        """
        super().__init__()
        if queries.width != passages.width:
            raise ModelError(
                f"{passages.tokenizer.name_or_path}: vectors of passages have {passages.width} numbers here, and those "
                f"of queries {queries.width} ({queries.tokenizer.name_or_path}); vectors of two widths cannot be "
                "compared"
            )
        self.queries = queries
        self.passages = passages
        self.read_by(_joined(queries.format, passages.format))

    @classmethod
    def beginning_as(cls, encoder: Encoder) -> "Towers":
        """Return two towers that are both this encoder, and part as they are trained."""
        return cls(encoder, copy.deepcopy(encoder))

    def hold_passages(self) -> None:
        """Take the passages' tower out of what is trained: no method finds it, no step moves it, nor its dropout."""
        passages = self.passages.requires_grad_(False).eval()
        del self.passages
        object.__setattr__(self, "passages", passages)  # no part of the module any more

    @property
    def holds_passages(self) -> bool:
        """Whether the passages' tower stands still."""
        return "passages" not in self._modules

    @property
    def format(self) -> TextFormat:
        """How queries and passages are read."""
        return _joined(self.queries.format, self.passages.format)

    def read_by(self, form: TextFormat) -> None:
        """Read texts by another format from now on."""
        asked, found = form.query_tokens, form.passage_tokens
        self.queries.read_by(TextFormat(query_prefix=form.query_prefix, query_tokens=asked, passage_tokens=asked))
        self.passages.read_by(TextFormat(passage_prefix=form.passage_prefix, query_tokens=found, passage_tokens=found))

    @property
    def width(self) -> int:
        """Dimensions of a vector."""
        return self.passages.width

    @property
    def config(self) -> Any:
        """The configuration of the queries' transformer; methods and libraries look for it here."""
        return self.queries.config

    def save(self, folder: Path) -> None:
        """Write a folder that sentence-transformers loads, with equal vectors by `encode_query` and `encode_document`.

        Each tower stands in a folder of its own, a whole model. Weights are written in fp32, LoRA updates merged.
        """
        self.queries.save(folder / "queries")
        self.passages.save(folder / "passages")
        write_towers_layout(folder, self.format)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name both towers; what names the passages' vectors is the passages' own."""
        return fingerprint("towers", self.queries.fingerprint(), self.passages.fingerprint())


BiEncoder: TypeAlias = Encoder | Towers


def load_bi_encoder(name: str, *, dtype: torch.dtype) -> BiEncoder:
    """Load what makes vectors of queries and of passages, for inference: one encoder, or one for each.

    Raises:
        ModelError: it cannot be found or is damaged, or does something between text and vector that burnish would leave
            out.
    """
    found = read_towers(resolve(name))
    if found is None:
        return Encoder.load(name, dtype=dtype)
    queries, passages = (
        Encoder.load(str(found[tower].network), dtype=dtype, reading=found[tower].reading)
        for tower in ("queries", "passages")
    )
    return Towers(queries, passages).eval()


def _joined(queries: TextFormat, passages: TextFormat) -> TextFormat:
    """Return one format, of the queries' part of one and the passages' part of another."""
    return queries.model_copy(
        update={"passage_prefix": passages.passage_prefix, "passage_tokens": passages.passage_tokens}
    )
