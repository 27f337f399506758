"""How much of an answer is borne by what it cites."""

from collections.abc import Sequence
from typing import Any, ClassVar

from burnish.claims import Statement
from burnish.metrics import Metric


class CitationRecall(Metric):
    """The share of an answer's statements that what they cite, put together, bears: ALCE's citation recall.

    A statement is a sentence; one without citations is not borne. Whether passages bear it, ALCE asks an NLI model;
    here the ladder's `grounding` says so. An answer without statements scores 0; one that abstains cites nothing and
    needs not: 1. Source: Gao et al. 2023 (arXiv 2305.14627), section 3.
    """

    reads: ClassVar[str] = "citations"

    @property
    def label(self) -> str:
        """`citation recall`."""
        return "citation recall"

    def score(self, predictions: Sequence[Sequence[Statement]], references: Sequence[Any]) -> list[float]:
        """Return the recall of each answer; references are not read."""
        assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
        return [sum(one.borne for one in said) / len(said) if said else 0.0 for said in predictions]
