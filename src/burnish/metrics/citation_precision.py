"""How many of an answer's citations help to bear what it says."""

from collections.abc import Sequence
from typing import Any, ClassVar

from burnish.claims import Statement
from burnish.metrics import Metric


class CitationPrecision(Metric):
    """The share of an answer's citations that are precise: ALCE's citation precision.

    A citation is precise where the passages that its sentence cites bear it together, and it is no bystander: it bears
    the sentence alone, or without it the others do not. The share is over all citations of an answer; one without
    any scores 0. Whether passages bear a sentence, ALCE asks an NLI model; here the ladder's `grounding` says so. One
    that abstains cites nothing and needs not: 1. Source: Gao et al. 2023 (arXiv 2305.14627), section 3.
    """

    reads: ClassVar[str] = "citations"

    @property
    def label(self) -> str:
        """`citation precision`."""
        return "citation precision"

    def score(self, predictions: Sequence[Sequence[Statement]], references: Sequence[Any]) -> list[float]:
        """Return the precision of each answer; references are not read."""
        assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
        found = []
        for said in predictions:
            precise = [one for statement in said for one in statement.precise]
            found.append(sum(precise) / len(precise) if precise else 0.0)
        return found
