"""Which of several answers to a prompt is preferred: the best to the worst, where a rank can tell them apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from burnish.errors import DataError
from burnish.text import normal

ALIKE = "all answers are the same"
UNANIMOUS = "all answers score the same"
NEAR = "best and worst are nearer than the gap"
EMPTY = "no answer says anything"


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers to a prompt, and how often it was drawn; score: higher is better, in the rank's own unit."""

    text: str
    drawn: int
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt's answers, best first, and which two make a pair; or, in `reason`, why none do."""

    answers: tuple[Answer, ...]
    reason: str = ""
    tied: bool = False  # several answers scored like the best, or like the worst

    @property
    def chosen(self) -> Answer:
        """The preferred answer."""
        return self.answers[0]

    @property
    def rejected(self) -> Answer:
        """The answer that it is preferred to."""
        return self.answers[-1]

    @property
    def gap(self) -> float:
        """How much better the one scores than the other; 0 without answers."""
        return self.chosen.score - self.rejected.score if self.answers else 0.0


def distinct(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Return the texts that differ in their words, each as it was first drawn, with how often it was; empty ones go."""
    counts = Counter(map(normal, texts))
    firsts: dict[str, str] = {}
    for text in texts:
        if text.strip():
            firsts.setdefault(normal(text), text)
    return [(text, counts[form]) for form, text in firsts.items()]


def choose(answers: Sequence[tuple[str, int]], scores: Sequence[float], *, gap: float) -> Choice:
    """Choose the best and the worst of a prompt's answers; of equal ones the one drawn more often, then the first.

    answers: as `distinct` returns them. gap: what the best must score above the worst, at least; above 0.

    Raises:
        DataError: a score is no finite number.
    """
    bad = [score for score in scores if not isfinite(score)]
    if bad:
        raise DataError(f"an answer was scored {bad[0]}; a rank gives finite numbers")
    found = [Answer(text, drawn, score) for (text, drawn), score in zip(answers, scores, strict=True)]
    order = sorted(range(len(found)), key=lambda place: (-found[place].score, -found[place].drawn, place))
    ranked = [found[place] for place in order]
    if not ranked:
        return Choice((), EMPTY)
    if len(ranked) == 1:
        return Choice(tuple(ranked), ALIKE)
    best, worst = ranked[0].score, ranked[-1].score
    if best == worst:
        return Choice(tuple(ranked), UNANIMOUS)
    lowest = [answer for answer in ranked if answer.score == worst]
    tied = len(lowest) > 1 or ranked[1].score == best
    ordered = (*ranked[: -len(lowest)], *lowest[1:], lowest[0])
    return Choice(ordered, NEAR if best - worst < gap else "", tied)
