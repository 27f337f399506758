"""Answers held against passages: the claims that an answer makes, and what was found about each."""

from dataclasses import dataclass
from typing import TypeAlias

import regex

from burnish.failures import Failure
from burnish.prompt import without_citations
from burnish.records import Record
from burnish.text import words

_MARKS = r"(?:\s*\[\d+(?:\s*,\s*\d+)*\])*"  # what cites belongs to the sentence before it
# Behind an end with no space before it a small letter goes on (`e.g. this`); ` . ` ends a sentence of tokenized text.
_END = regex.compile(
    rf"(?:\n\s*|(?<!\b\p{{Lu}})(?<=\S)[.!?…]+[\"'”’)\]]*{_MARKS}(?=\s+[^\s\p{{Ll}}])\s+|(?<=\s)[.!?…]+{_MARKS}\s+)"
)
_TITLES = frozenset(["dr", "mr", "mrs", "ms", "prof", "st", "vs", "fig", "eq", "approx", "jr", "sr"])


class Answered(Record):
    """An answer that somebody gave, with what it was given from: a row of a table that is to be judged."""

    question: str = ""
    passages: tuple[str, ...] = ()
    answer: str


@dataclass(frozen=True, slots=True)
class Case:
    """An answer, and the texts of the passages that it was shown."""

    passages: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of an answer, and how the passages bear it.

    support: 0…1. supported: whether that is enough. passage: the number, from 0, of the passage that bears it best;
    None where none does. evidence: words of that passage, where the judge quotes them.
    """

    text: str
    support: float
    supported: bool
    passage: int | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Grounded:
    """An answer, judged: all of its claims."""

    claims: tuple[Claim, ...]

    @property
    def score(self) -> float:
        """The support of the claim that has least, 0…1: no other claim makes up for it; 0 where nothing is claimed."""
        return min((claim.support for claim in self.claims), default=0.0)

    @property
    def faithful(self) -> bool:
        """Whether something is claimed and all of it is supported."""
        return bool(self.claims) and all(claim.supported for claim in self.claims)


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, and what its citations are worth.

    borne: whether the passages that it cites, put together, bear it. precise: of each citation, whether it helps.
    """

    borne: bool
    precise: tuple[bool, ...] = ()


Judged: TypeAlias = Grounded | Failure


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, in their order: pieces of it, without the white space around them.

    A sentence ends at a line's end, or at `.`, `!`, `?` or `…` before white space and no small letter; not behind
    an initial or a title (`J. Doe`, `Dr. No`). Citations as `[1]` behind its end are the sentence's. Pieces without a
    word (`1.` of a list) stand with what follows.
    """
    found, begin = [], 0
    for end in _END.finditer(text):
        before = text[begin : end.start()]
        last = words(before[-12:])
        numbered = len(last) == 1 and last[0].isdigit() and words(before) == last  # `1.` of a list
        if "\n" not in end[0] and (not last or last[-1] in _TITLES or numbered):
            continue
        found.append(text[begin : end.end()].strip())
        begin = end.end()
    found.append(text[begin:].strip())
    return [piece for piece in found if words(piece)]


def claims_of(answer: str) -> list[str]:
    """Return the claims of an answer: its sentences, without the marks that cite; none where it says nothing."""
    return [without_citations(sentence) for sentence in sentences(answer) if words(without_citations(sentence))]
