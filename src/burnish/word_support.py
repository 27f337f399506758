"""How far the words of a passage bear a claim: no model, the same everywhere."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from bm25s.stopwords import STOPWORDS_EN_PLUS
from snowballstemmer import stemmer

from burnish.claims import sentences
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


def supports_by_words(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return for each (passage, claim) the share of the claim's content words that a piece of the passage holds, 0…1.

    A piece is up to three sentences in a row; the best counts. 0 where a number of the claim is not in the piece, or
    where a shared word is denied on one side alone: it is the first content word behind a negation (`not`, `never`,
    `without`, …); of a piece, the sentence with most of the claim's words is asked. Words are compared by their stems
    (Porter); content words are all but English stop words, and a claim of those alone is compared by all its words.
    """
    stem = cache(stemmer("porter").stemWord)
    passages = {text: [_said(sentence, stem) for sentence in sentences(text)] for text, _ in pairs}
    claims = {claim: _said(claim, stem) for _, claim in pairs}
    return [_support(claims[claim], passages[text]) for text, claim in pairs]


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
