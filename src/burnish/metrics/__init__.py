"""Metrics: predictions and references in, one number an example out."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from burnish.spec import Part

Ranking: TypeAlias = Sequence[str]  # chunk ids, best first, each once
Grades: TypeAlias = Mapping[str, int]  # chunk id → relevance; a missing id and anything below 1 is not relevant
Answers: TypeAlias = Sequence[str]  # the right answers; the best match counts

_AT = re.compile(r"(\w+)@(\d+)")


class Metric(Part):
    """Scores predictions, one number an example, so that intervals and paired tests stay possible."""

    folder: ClassVar[str] = "burnish.metrics"

    @property
    @abstractmethod
    def label(self) -> str:
        """The name that a table shows, as the field writes it: `nDCG@10`."""

    @abstractmethod
    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[float]:
        """Return one score an example, in the order given; a perfect prediction scores 1, an empty input [].

        A member narrows the types: a ranking against grades, a text against answers, a label against a label.
        """

    @classmethod
    def read(cls, value: Any) -> Any:
        """Build a metric from its name; `nDCG@10` is short for `{kind: ndcg, k: 10}`."""
        found = _AT.fullmatch(value) if isinstance(value, str) else None
        return super().read({"kind": found[1].lower(), "k": int(found[2])} if found else value)
