"""The rules by which a hit may be called wrong: what each asks, and in which order they are asked."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from pydantic import Field

from burnish.prepare.answers import holds, telling
from burnish.prepare.dedup import containment, word_shingles
from burnish.prepare.hits import Candidate
from burnish.records import Chunk, Question
from burnish.spec import Spec
from burnish.text import normal

_REMEMBERED = 50_000  # passages whose shingles are kept: a few hundred MB of them at most

RIGHT = "is a right passage"
SKIPPED = "ranks among the first that are skipped"
UNRANKED = "ranks high where no right passage was found"
SCORE = "scores too close to the right passage"
ABSOLUTE = "scores within the absolute margin of the right passage"
RELATIVE = "scores within the relative margin of the right passage"
ANSWER = "is titled like an answer"
CONTAINS = "contains an answer"
COPY = "is a near-duplicate of a right passage"
TWIN = "has the text of a negative before it"
VETO = "was vetoed by the cross-encoder"
REASONS = (RIGHT, SKIPPED, UNRANKED, SCORE, ABSOLUTE, RELATIVE, ANSWER, CONTAINS, COPY, TWIN, VETO)


class Rules(Spec):
    """What a hit must be to count as a negative. A rule that is null is not asked.

    A score is compared with the lowest that a right passage has in the same retriever's list. A passage that several
    retrievers found must pass in each of them. Where no list of a passage holds a right one there is nothing to compare
    with, and it is left out if it stands in the upper half of one.
    """

    per_question: int = Field(default=4, ge=0)
    depth: int = Field(default=50, ge=1)  # hits of each retriever that are looked at
    skip: int = Field(default=0, ge=0)  # first ranks that are left out, right passages not counted
    # Share of the right passage's score that a negative may have: TopK-PercPos (Moreira et al. 2024, arXiv 2407.15831),
    # read as 1 - ceiling below that score, so that it also holds below zero.
    ceiling: float | None = Field(default=0.95, gt=0, le=1)
    absolute_margin: float | None = Field(default=None, ge=0)  # in the retriever's own unit
    relative_margin: float | None = Field(default=None, ge=0)  # share of the right passage's score
    contains_answer: bool = True  # leave out what holds an answer of the question, as words; not `yes` or `7`
    copies: float | None = Field(default=0.8, gt=0, le=1)  # share of word shingles that make a copy of a right passage
    veto: str | None = None  # a cross-encoder that must not score a negative like a right passage
    veto_share: float = Field(default=0.95, gt=0, le=1)  # of its score of the right passage
    sampling: Literal["top", "random"] = "top"  # of what is left: the hardest, or any


class Judge:
    """Asks the rules, for one corpus."""

    def __init__(self, rules: Rules, chunks: Mapping[str, Chunk]) -> None:
        """Keep what questions have in common: the passages and, for a while, their shingles."""
        self.rules, self.chunks = rules, chunks
        self.shingles = lru_cache(maxsize=_REMEMBERED)(lambda key: word_shingles(chunks[key].text))

    def passing(
        self, question: Question, candidates: Sequence[Candidate], right: Collection[str], dropped: Counter[str]
    ) -> Iterator[Candidate]:
        """Yield the candidates that pass every rule but the veto, in their order; the others are counted by reason.

        right: ids of passages that are right for the question; `dropped` is counted up as far as is looked.
        """
        case = _Case(self, question, candidates, right)
        for candidate in candidates:
            reason = next(case.reasons(candidate), None)
            if reason is None:
                yield candidate
            else:
                dropped[reason] += 1


class _Case:
    """One question and what was found for it."""

    def __init__(
        self, judge: Judge, question: Question, candidates: Sequence[Candidate], right: Collection[str]
    ) -> None:
        self._rules, self._chunks, self._shingles = judge.rules, judge.chunks, judge.shingles
        self._right = right
        found = [candidate for candidate in candidates if candidate.id in right]
        lists = len(candidates[0].ranks) if candidates else 0
        self._bars = [lowest(c.scores[place] for c in found) for place in range(lists)]
        self._taken = [[c.ranks[place] for c in found] for place in range(lists)]  # ranks of right passages
        self._titles = {normal(answer) for answer in question.answers}
        self._answers = telling(question.answers) if self._rules.contains_answer else []
        self._seen: set[str] = set()

    def reasons(self, candidate: Candidate) -> Iterator[str]:
        """Yield why the candidate is left out; the cheap questions are asked first."""
        rules, chunk = self._rules, self._chunks[candidate.id]
        if candidate.id in self._right:
            yield RIGHT
        if rules.skip and self._skipped(candidate):
            yield SKIPPED
        if not (rules.ceiling is rules.absolute_margin is rules.relative_margin is None) and self._unranked(candidate):
            yield UNRANKED
        ceiling, margin, relative = rules.ceiling, rules.absolute_margin, rules.relative_margin
        both = self._compared(candidate)
        if ceiling is not None and any(own > bar - abs(bar) * (1 - ceiling) for own, bar in both):
            yield SCORE
        if margin is not None and any(own + margin > bar for own, bar in both):
            yield ABSOLUTE
        if relative is not None and any(own > bar - abs(bar) * relative for own, bar in both):
            yield RELATIVE
        if chunk.title and normal(chunk.title) in self._titles:
            yield ANSWER
        if self._answers and holds(f"{chunk.title}\n{chunk.text}", self._answers):
            yield CONTAINS
        if rules.copies is not None and self._nearest(candidate) >= rules.copies:
            yield COPY
        if self._again(f"{chunk.title}\n{chunk.text}"):
            yield TWIN

    def _compared(self, candidate: Candidate) -> list[tuple[float, float]]:
        """Return the candidate's score and that of the right passage, in each list that holds both."""
        pairs = zip(candidate.scores, self._bars, strict=True)
        return [(own, bar) for own, bar in pairs if own is not None and bar is not None]

    def _unranked(self, candidate: Candidate) -> bool:
        """Tell whether there is nothing to compare with, and the rank is high."""
        return not self._compared(candidate) and candidate.best <= self._rules.depth // 2

    def _skipped(self, candidate: Candidate) -> bool:
        """Tell whether a rank, counted among what is not right, is one of the first."""
        return any(
            rank is not None and rank - sum(other is not None and other < rank for other in taken) <= self._rules.skip
            for rank, taken in zip(candidate.ranks, self._taken, strict=True)
        )

    def _nearest(self, candidate: Candidate) -> float:
        """Return how much of a right passage the candidate repeats at most."""
        own = self._shingles(candidate.id)
        return max((containment(own, self._shingles(key)) for key in self._right), default=0.0)

    def _again(self, text: str) -> bool:
        """Tell whether the text came before, and remember it."""
        form = normal(text)
        if form and form in self._seen:
            return True
        self._seen.add(form)
        return False


def lowest(scores: Iterable[float | None]) -> float | None:
    """Return the lowest of the scores that there are."""
    return min((score for score in scores if score is not None), default=None)
