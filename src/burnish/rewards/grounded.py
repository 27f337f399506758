"""Faithfulness as a reward: what the text says stands in the prompt's passages."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from burnish.claims import Case
from burnish.errors import DataError
from burnish.failures import Failure, counted, in_words
from burnish.grounding import Grounder
from burnish.rewards import Judge, Reward, Written


class GroundedReward(Reward):
    """The support, 0…1, that the passages give the claim of a text that has least; 0 where nothing is claimed.

    A text that copies a passage has all of it, so that another reward must say what an answer is. A judgement that
    does not come ends the run, which can be resumed: it is never taken for a 0.
    """

    reads: ClassVar[Literal["answers", "passages", ""]] = "passages"

    grounder: Grounder = Field(default_factory=lambda: Grounder.read("lexical"))

    def load(self) -> Judge:
        """Return what holds texts against their passages."""
        check = self.grounder.load()

        def judge(texts: Sequence[Written]) -> list[float]:
            cases = [Case(one.passages, one.text) for one in texts]
            judged = check(cases, progress=lambda *_: None)
            failed = counted(judged)
            if failed:
                raise DataError(f"reward {self.label}: not judged are {in_words(failed, len(texts))}; resume the run")
            return [one.score for one in judged if not isinstance(one, Failure)]

        return judge
