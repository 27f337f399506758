"""Grounding: does what an answer says stand in the passages that it was shown?"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from pydantic import Field

from burnish.claims import Case, Claim, Grounded, Judged, claims_of
from burnish.retrievers import Progress
from burnish.spec import Part

Pair = tuple[str, str]  # a passage and a claim


class Check(Protocol):
    """A grounder that is loaded."""

    def __call__(self, cases: Sequence[Case], *, progress: Progress) -> list[Judged]:
        """Return, for each answer, all its claims with their support, or why it could not be judged."""
        ...


class Grounder(Part):
    """How answers are held against their passages, claim by claim; `load` makes it ready.

    A claim is a sentence, and is borne by one passage: its support is the highest that any single passage gives it.
    An answer's score is the support of its least supported claim. What cannot be judged is a `Failure`, beside the
    scores and never among them.
    """

    folder: ClassVar[str] = "burnish.grounding"

    @abstractmethod
    def load(self) -> Check:
        """Return what judges answers."""


Threshold = Field(ge=0, le=1, description="support from which on a claim counts as supported")


def check_by_pairs(
    cases: Sequence[Case], supports: Callable[[Sequence[Pair]], Sequence[float]], *, threshold: float
) -> list[Judged]:
    """Judge answers by the support, 0…1, that each passage gives each claim alone; equal pairs are asked about once.

    supports: one number for each pair, in the order given.
    """
    claims = [claims_of(case.answer) for case in cases]
    pairs = [
        (text, claim) for case, said in zip(cases, claims, strict=True) for claim in said for text in case.passages
    ]
    unique = list(dict.fromkeys(pairs))
    support = dict(zip(unique, supports(unique), strict=True))

    def judged(claim: str, passages: Sequence[str]) -> Claim:
        given = [support[text, claim] for text in passages]
        best = max(given, default=0.0)
        return Claim(claim, best, best >= threshold, passage=given.index(best) if best > 0 else None)

    return [
        Grounded(tuple(judged(claim, case.passages) for claim in said))
        for case, said in zip(cases, claims, strict=True)
    ]
