"""BERTScore: each token is as good as its nearest token on the other side, by an encoder's vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from burnish.metrics import Metric


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """A text as an encoder sees it; special tokens take no part."""

    vectors: NDArray[np.float32]  # (tokens, width), unit length
    weights: NDArray[np.float64]  # (tokens,), at least 0: 1 each, or the idf


class Bertscore(Metric):
    """Greedy matching of token vectors by cosine, against the best of the references (Zhang et al. 2020).

    R = Σ_i w_i · max_j cos(x_i, y_j) / Σ_i w_i over the tokens i of the reference, P the same over those of the
    prediction, F = 2·P·R / (P + R), 0 where P or R is not positive. Range -1…1, in practice the upper end of it.
    `evaluation.bertscore` embeds texts and calls this; weights are 1, or with `idf` those of the references.
    Beginning and end tokens are left out altogether (the bert-score package lets others match them), and nothing is
    rescaled: compare scores of one model and one layer alone. Source: arXiv 1904.09675.
    """

    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    model: str = "embedded/minilm"  # any encoder that loads by name
    layer: int | None = Field(default=None, ge=0)  # 0: the embeddings; none: the last
    part: Literal["f1", "precision", "recall"] = "f1"
    idf: bool = False

    @property
    def label(self) -> str:
        """What was compared by what: `BERTScore F1 (embedded/minilm, layer 6, idf)`."""
        told = [self.model] + ([f"layer {self.layer}"] if self.layer is not None else []) + ["idf"] * self.idf
        return f"BERTScore {'F1' if self.part == 'f1' else self.part} ({', '.join(told)})"

    def score(self, predictions: Sequence[TokenVectors], references: Sequence[Sequence[TokenVectors]]) -> list[float]:
        """Return the score of each text against the best of its references, of which there is at least one."""
        return [
            max(self._one(said, right) for right in rights)
            for said, rights in zip(predictions, references, strict=True)
        ]

    def _one(self, said: TokenVectors, right: TokenVectors) -> float:
        """Return the score against one reference; a text without tokens matches only another such one."""
        if not len(said.vectors) and not len(right.vectors):
            return 1.0
        if not said.weights.any() or not right.weights.any():
            return 0.0
        cosines = np.clip(said.vectors.astype(np.float64) @ right.vectors.astype(np.float64).T, -1.0, 1.0)
        precision = float(np.average(cosines.max(axis=1), weights=said.weights))
        recall = float(np.average(cosines.max(axis=0), weights=right.weights))
        if self.part != "f1":
            return precision if self.part == "precision" else recall
        return 2 * precision * recall / (precision + recall) if precision > 0 and recall > 0 else 0.0
