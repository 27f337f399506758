"""Coverage: which passages have training questions, and how evenly these are spread over them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.prepare.judged import is_beir, judged_source
from burnish.records import Chunk, Pair, Question

_MARKS = {"half": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
_SHOWN_GROUPS = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """How training questions are spread over the passages of a corpus."""

    passages: int
    asked: int  # passages that are right for one question at least
    gini: float  # 0: every passage has as many questions; towards 1: one passage has them all
    questions: dict[str, int]  # of a passage: what half, 90 and 99 of 100 have at most, and the most
    groups: int
    unasked: tuple[str, ...]  # the groups none of whose passages has a question

    @property
    def share(self) -> float:
        """The share of the passages that have a question, 0…1."""
        return self.asked / self.passages if self.passages else 0.0

    def lines(self) -> list[str]:
        """Return the facts for a person."""
        found = [
            f"coverage: {self.asked:,} of {self.passages:,} passages ({self.share:.0%}) have a training question; "
            f"questions a passage: {', '.join(f'{mark} {number:,}' for mark, number in self.questions.items())}; "
            f"Gini {self.gini:.2f}"
        ]
        if self.unasked:
            rest = len(self.unasked) - _SHOWN_GROUPS
            shown = ", ".join(self.unasked[:_SHOWN_GROUPS]) + (f" and {rest:,} more" if rest > 0 else "")
            found.append(f"groups without a training question: {len(self.unasked):,} of {self.groups:,}: {shown}")
        return found


def coverage(groups: Mapping[str, str], asked: Iterable[str]) -> Coverage:
    """Return how questions are spread over passages.

    groups: the group of each passage by its name, empty where it has none. asked: the passage that is right for a
    question, once for each question and each of its right passages.
    """
    counts = Counter(name for name in asked if name in groups)
    numbers = np.sort(np.array([counts[name] for name in groups], dtype=np.int64))
    met = {groups[name] for name in counts}
    named = dict.fromkeys(group for group in groups.values() if group)
    marks = np.quantile(numbers, list(_MARKS.values()), method="higher") if len(numbers) else [0] * len(_MARKS)
    return Coverage(
        passages=len(numbers),
        asked=len(counts),
        gini=gini(numbers),
        questions={mark: int(number) for mark, number in zip(_MARKS, marks, strict=True)},
        groups=len(named),
        unasked=tuple(group for group in named if group not in met),
    )


def question_coverage(questions: Sequence[Question], chunks: Iterable[Chunk]) -> Coverage:
    """Return how questions are spread over the chunks of a corpus, as `coverage` does."""
    return coverage({chunk.id: chunk.group for chunk in chunks}, (key for q in questions for key in q.gold))


def pair_coverage(rows: Sequence[Pair]) -> Coverage:
    """Return how the queries of pairs are spread over the passages that these pairs hold, negatives among them."""
    texts = dict.fromkeys((text for row in rows for text in (*row.positives, *row.negatives)), "")
    return coverage(texts, (text for row in rows for text in dict.fromkeys(row.positives)))


def training_coverage(place: str, rows: Sequence[Pair]) -> Coverage:
    """Return the coverage of training rows: over the whole corpus where they stand in a BEIR folder.

    Raises:
        DataError: the folder cannot be read.
    """
    if not is_beir(place):
        return pair_coverage(rows)
    source = judged_source(place, "train")
    return question_coverage(source.questions, source.chunks)


def gini(numbers: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """Return Gini's coefficient of counts in rising order: half their mean difference, divided by their mean.

    Σ_i (2i - n - 1) x_i / (n Σ x), i from 1 (Gini 1912); 0…1, and 0 where there is nothing to share out.
    """
    found = np.asarray(numbers, dtype=np.float64)
    n, total = len(found), float(found.sum())
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * found).sum() / (n * total))
