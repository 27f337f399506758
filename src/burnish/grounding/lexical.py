"""Grounding by words: no model, the same everywhere, and blind to other words for the same."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from bm25s.stopwords import STOPWORDS_EN_PLUS
from pydantic import Field
from snowballstemmer import stemmer

from burnish.claims import sentences
from burnish.grounding import Check, Grounder, Pair, check_by_pairs
from burnish.text import words

_SMALL = frozenset(part for word in STOPWORDS_EN_PLUS for part in words(word)) | {
    "n"
}  # `is n't`, as treebanks write it
_NOT = frozenset(["no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "without", "cannot"])
_BETWEEN = _SMALL | {"longer", "yet", "ever", "even"}  # `no longer works` denies that it works
_WINDOW = 3  # sentences that may bear a claim together


class _Said(NamedTuple):
    """A sentence: the stems of its words, those of its content words, and of these the ones that it denies."""

    stems: frozenset[str]
    content: frozenset[str]
    denied: frozenset[str]


class Lexical(Grounder):
    """The share of a claim's content words, by their stems (Porter), that a piece of a passage holds, 0…1.

    A piece is up to three sentences in a row; the best counts. It gives 0 where a number of the claim is not in the
    piece, or where a shared word is denied on one side alone: it is the first content word behind a negation (`not`,
    `never`, `without`, …); of a piece, the sentence with most of the claim's words is asked. Content words are
    all but English stop words; a claim of those alone is compared by all its words. What is true and said in other
    words goes unsupported, and what is wrong and made of the passage's words goes through: calibrate on judged
    answers, or train a detector.
    """

    threshold: float = Field(default=0.75, ge=0, le=1)  # support from which on a claim counts as supported

    def load(self) -> Check:
        """Return what judges answers; nothing is read."""
        stem = cache(stemmer("porter").stemWord)

        def supports(pairs: Sequence[Pair]) -> list[float]:
            passages = {text: [_said(sentence, stem) for sentence in sentences(text)] for text, _ in pairs}
            claims = {claim: _said(claim, stem) for _, claim in pairs}
            return [_support(claims[claim], passages[text]) for text, claim in pairs]

        return lambda cases, *, progress: check_by_pairs(cases, supports, threshold=self.threshold)  # noqa: ARG005


def _said(text: str, stem: Callable[[str], str]) -> _Said:
    """Return what is compared of a sentence."""
    said = words(text)
    content = [word for word in said if word not in _SMALL and word not in _NOT] or said
    denied: set[str] = set()
    for place, word in enumerate(said):
        if word in _NOT or (word == "t" and place and said[place - 1].endswith("n")):
            denied |= {stem(word) for word in [*(w for w in said[place + 1 :] if w not in _BETWEEN)][:1]}
    return _Said(frozenset(map(stem, said)), frozenset(map(stem, content)), frozenset(denied))


def _support(claim: _Said, passage: Sequence[_Said]) -> float:
    """Return how well the passage's sentences bear the claim, 0…1."""
    numbers = {word for word in claim.content if any(letter.isdigit() for letter in word)}
    best = 0.0
    for first in range(len(passage)):
        for last in range(first + 1, min(first + _WINDOW, len(passage)) + 1):
            piece = passage[first:last]
            held = claim.content & frozenset().union(*(said.stems for said in piece))
            nearest = max(piece, key=lambda said: len(claim.content & said.stems))
            shared = claim.content & nearest.stems
            opposed = bool(claim.denied & shared) != bool(nearest.denied & shared)
            if numbers <= held and not opposed:
                best = max(best, len(held) / len(claim.content))
    return best
