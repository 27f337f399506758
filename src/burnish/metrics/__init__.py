"""Metrics: predictions and references in, one number an example out."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from burnish.errors import DataError
from burnish.spec import Part

Ranking: TypeAlias = Sequence[str]  # chunk ids, best first, each once
Grades: TypeAlias = Mapping[str, int]  # chunk id → relevance; a missing id and anything below 1 is not relevant
Floats: TypeAlias = NDArray[np.float64]
Answers: TypeAlias = Sequence[str]  # the right answers; the best match counts

TINY = 1e-12  # below this share of its own size a variance is rounding
ADVICE = "Leave such questions out before scoring, and say how many they were"
_AT = re.compile(r"(\w+)@(\d+)")


@dataclass(frozen=True, slots=True)
class Guess:
    """A predicted label, and how probable the model holds it to be right, 0…1."""

    label: str
    probability: float


class Metric(Part):
    """Scores predictions so that intervals and paired tests stay possible.

    Every metric is a function of sums over examples: `statistics` gives each example's share of the sums, `combine`
    makes the number. A mean of scores needs `score` alone; corpus metrics (macro F1, BLEU, a correlation) give both.
    """

    folder: ClassVar[str] = "burnish.metrics"
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    certain: ClassVar[float | None] = None  # a value that no other example would change, where all have it
    reads: ClassVar[str] = "answers"  # which predictions of a task: answers, guesses, likelihoods

    @property
    @abstractmethod
    def label(self) -> str:
        """The name that a table shows, as the field writes it: `nDCG@10`."""

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[float]:
        """Return one score an example, in the order given; a perfect prediction scores 1, an empty input [].

        A member narrows the types: a ranking against grades, a text against answers, a label against a label.

        Raises:
            NotImplementedError: the metric is no mean of scores; use `statistics` and `combine`.
        """
        raise NotImplementedError(f"{self.label} is no mean of scores of single examples")

    def statistics(self, predictions: Sequence[Any], references: Sequence[Any]) -> Floats:
        """Return (examples, s): what each example adds to the sums that `combine` reads."""
        scores = np.array(self.score(predictions, references), dtype=np.float64)
        return np.stack([scores, np.ones(len(scores))], axis=1)

    def combine(self, totals: Floats) -> Floats:
        """Return the metric, (…), from sums of statistics, (…, s); works on many resamples at once."""
        found: Floats = totals[..., 0] / totals[..., 1]
        return found

    @property
    def is_mean(self) -> bool:
        """Whether the metric is the mean of `score`, so that each example has a number of its own."""
        return type(self).statistics is Metric.statistics and type(self).combine is Metric.combine

    def paired_statistics(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any]
    ) -> tuple[Floats, Floats]:
        """Return the statistics of two systems on the same examples, their columns alike.

        A member whose columns depend on the predictions (the classes met, say) makes them for both systems at once.
        """
        return self.statistics(ours, references), self.statistics(theirs, references)

    def value(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Return the metric over all examples, of which there is at least one."""
        return float(self.combine(self.statistics(predictions, references).sum(axis=0)))

    @classmethod
    def read(cls, value: Any) -> Any:
        """Build a metric from its name; `nDCG@10` is short for `{kind: ndcg, k: 10}`."""
        found = _AT.fullmatch(value) if isinstance(value, str) else None
        return super().read({"kind": found[1].lower(), "k": int(found[2])} if found else value)


def sacrebleu_signature(scorer: Any, references: Sequence[Answers]) -> str:
    """Return the signature of a metric of sacrebleu's for these references: scores compare by it across papers."""
    counts = {len(rights) for rights in references}
    scorer.num_refs = counts.pop() if len(counts) == 1 else -1  # sacrebleu writes -1 as `var`
    return str(scorer.get_signature())


def sacrebleu_counts(scorer: Any, predictions: Sequence[str], references: Sequence[Answers], columns: int) -> Floats:
    """Return the counts that a metric of sacrebleu's keeps of each example, (examples, columns).

    Raises:
        DataError: an example has no reference: callers leave such examples out beforehand, and count them.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
    if not predictions:
        return np.zeros((0, columns))
    streams = list(zip_longest(*require_answers(references)))  # sacrebleu takes the first references of all first
    # Not documented, yet what sacrebleu's own significance tests resample; equality with its scores is tested.
    return np.array(scorer._extract_corpus_statistics(predictions, streams), dtype=np.float64)


def sacrebleu_score(scorer: Any, totals: Floats) -> Floats:
    """Return the score of a metric of sacrebleu's, (…), from (…, columns) counts."""
    found = [scorer._compute_score_from_stats(row).score for row in totals.reshape(-1, totals.shape[-1]).tolist()]
    return np.array(found, dtype=np.float64).reshape(totals.shape[:-1])


def require_relevant(references: Sequence[Grades], label: str) -> list[set[str]]:
    """Return the relevant passages of each question.

    Raises:
        DataError: a question has none, so no ranking of it can be scored.
    """
    found = [{passage for passage, grade in grades.items() if grade > 0} for grades in references]
    for place, relevant in enumerate(found, start=1):
        if not relevant:
            raise DataError(
                f"question {place} of {len(references)}: it has no passage with a grade of 1 or more, so "
                f"{label} is not defined. {ADVICE}"
            )
    return found


def require_answers(references: Sequence[Answers]) -> Sequence[Answers]:
    """Return the right answers of each question.

    Raises:
        DataError: a question has none to compare with.
    """
    for place, rights in enumerate(references, start=1):
        if not rights:
            raise DataError(f"question {place} of {len(references)}: it has no right answer to compare with. {ADVICE}")
    return references


def require_numbers(predictions: Sequence[float], references: Sequence[float], label: str) -> tuple[Floats, Floats]:
    """Return predictions and references as arrays, (examples,) both.

    Raises:
        DataError: one of them is not a finite number.
    """
    pairs = [(float(said), float(right)) for said, right in zip(predictions, references, strict=True)]
    found = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    for name, numbers in zip(("prediction", "reference"), found, strict=True):
        if len(bad := np.flatnonzero(~np.isfinite(numbers))):
            raise DataError(
                f"{label}: {name} {bad[0] + 1} of {len(numbers)} is {numbers[bad[0]]}; a finite number is needed"
            )
    said, right = found
    return said, right


def require_variation(numbers: Floats, label: str, what: str) -> Floats:
    """Return the numbers, (examples,), shifted and scaled to mean 0 and variance 1, which no correlation notices.

    Sums of squares of large numbers that differ little would otherwise lose the difference to rounding.

    Raises:
        DataError: there is an example, and all numbers are equal, so nothing can correlate with them.
    """
    if not len(numbers):
        return numbers
    largest = float(np.abs(numbers).max()) or 1.0
    centred = numbers / largest - (numbers / largest).mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if spread == 0 or np.ptp(numbers) == 0:
        raise DataError(
            f"{label} is not defined: {what} are all {numbers[0]:g} on {len(numbers)} "
            f"example{'s' if len(numbers) > 1 else ''}, and a correlation needs numbers that differ"
        )
    found: Floats = centred / spread
    return found


def correlation_sums(predictions: Floats, references: Floats) -> Floats:
    """Return (examples, 6): 1, x, y, x², y², x·y, which `correlation` reads; x and y are (examples,)."""
    x, y = predictions, references
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def correlation(totals: Floats) -> Floats:
    """Return Pearson's r, (…), from sums of `correlation_sums`, (…, 6); not a number where x or y do not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    spread_x, spread_y = n * xx - x * x, n * yy - y * y
    varied = (spread_x > TINY * n * xx) & (spread_y > TINY * n * yy)
    spread = np.sqrt(np.where(varied, spread_x, 1.0)) * np.sqrt(np.where(varied, spread_y, 1.0))
    found: Floats = np.where(varied, np.clip((n * xy - x * y) / spread, -1.0, 1.0), np.nan)
    return found


def quotient(above: Floats, below: Floats) -> Floats:
    """Return above / below, and 0 where below is 0: scikit-learn's `zero_division=0`."""
    found: Floats = np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)
    return found
