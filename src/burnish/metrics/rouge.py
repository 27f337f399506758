"""ROUGE: words, word pairs or word sequences that a summary shares with its reference."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from burnish.metrics import Answers, Metric, require_answers
from burnish.text import words

Tokens: TypeAlias = list[str]
SHORTEST_STEMMED = 4  # letters; rouge-score leaves shorter words as they are


class Rouge(Metric):
    """F1 of ROUGE-1, -2, -L or -Lsum: 2·shared / (predicted + reference), for the best of the references.

    1 and 2 count words and word pairs, as often as both sides say them. L takes the longest common sequence of words.
    Lsum splits at line ends and takes, for each line of the reference, the words that stand in its longest common
    sequence with any line of the prediction; no word counts more often than both sides say it.
    Words are those of `burnish.text.words`, in every script; the rouge-score package reads a-z and 0-9 alone, and
    scores a Greek or Thai text 0 against itself. On ASCII text the two are equal. Where a script puts no spaces, a
    word is a whole run of letters: use chrF there.
    stem: Porter's stemmer for words of 4 letters and more, as published; rouge-score takes NLTK's variant, and of
    43,000 words in English manuals the two treat 0.5 % differently (`assembly` and `assembler` stay apart here).
    Range 0…1; 0 where nothing can match (a pair needs two words). Source: Lin 2004 (aclanthology W04-1013).
    """

    variant: Annotated[Literal["1", "2", "l", "lsum"], BeforeValidator(lambda value: str(value).lower())] = "l"
    stem: bool = False

    @property
    def label(self) -> str:
        """`ROUGE-1`, `ROUGE-Lsum`; with stems `ROUGE-L (stems)`."""
        return f"ROUGE-{self.variant.capitalize()}{' (stems)' if self.stem else ''}"

    def score(self, predictions: Sequence[str], references: Sequence[Answers]) -> list[float]:
        """Return the F1 of each text against the best of its references.

        Raises:
            DataError: an example has no reference: callers leave such examples out beforehand, and count them.
        """
        stems = _Stems() if self.stem else None
        scores = []
        for text, rights in zip(predictions, require_answers(references), strict=True):
            said = self._lines(text, stems)
            scores.append(max(self._f1(said, self._lines(right, stems)) for right in rights))
        return scores

    def _lines(self, text: str, stems: "_Stems | None") -> list[Tokens]:
        """Return the tokens of each line of a text, which is one line for all but Lsum."""
        found = [words(line) for line in (text.split("\n") if self.variant == "lsum" else [text])]
        return found if stems is None else [[stems[word] for word in line] for line in found]

    def _f1(self, said: Sequence[Tokens], right: Sequence[Tokens]) -> float:
        """Return 2·shared / (said + right); a text is its lines, each its tokens."""
        if self.variant == "lsum":
            return _share(_shared_by_lines(said, right), sum(map(len, said)), sum(map(len, right)))
        [mine], [true] = said, right
        if self.variant == "l":
            return _share(_common(true, mine), len(mine), len(true))
        grams = [
            Counter(zip(*(tokens[start:] for start in range(int(self.variant))), strict=False))
            for tokens in (mine, true)
        ]
        return _share((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total())


class _Stems(dict[str, str]):
    """Word → stem, each worked out once."""

    def __init__(self) -> None:
        from snowballstemmer import stemmer

        self._stemmer = stemmer("porter")

    def __missing__(self, word: str) -> str:
        self[word] = self._stemmer.stemWord(word) if len(word) >= SHORTEST_STEMMED else word
        return self[word]


def _share(shared: int, said: int, right: int) -> float:
    """Return the harmonic mean of shared / said and shared / right, 0 where either has nothing."""
    return 2 * shared / (said + right) if said and right else 0.0


def _rows(right: Tokens, said: Tokens) -> Iterator[NDArray[np.int64]]:
    """Yield, for 0, 1, … tokens of `right`, the longest common sequence with the first 0, 1, … tokens of `said`."""
    numbers = {token: number for number, token in enumerate(dict.fromkeys(said))}
    tokens = np.array([numbers[token] for token in said], dtype=np.int64)
    row = np.zeros(len(said) + 1, dtype=np.int64)
    yield row
    for token in right:
        longer = row.copy()
        longer[1:] = np.where(tokens == numbers.get(token, -1), row[:-1] + 1, row[1:])
        row = np.maximum.accumulate(longer)
        yield row


def _common(right: Tokens, said: Tokens) -> int:
    """Return the length of the longest common sequence."""
    return int(deque(_rows(right, said), maxlen=1).pop()[-1])


def _shared_by_lines(said: Sequence[Tokens], right: Sequence[Tokens]) -> int:
    """Return how many words of the reference's lines stand in a longest common sequence with any predicted line."""
    free_said, free_right = (Counter(token for line in lines for token in line) for lines in (said, right))
    shared = 0
    for line in right:
        for place in sorted(set().union(*(_places(line, other) for other in said))):
            token = line[place]
            if free_said[token] > 0 and free_right[token] > 0:
                shared += 1
                free_said[token] -= 1
                free_right[token] -= 1
    return shared


def _places(right: Tokens, said: Tokens) -> set[int]:
    """Return the places in `right` of one longest common sequence: of several the one that rouge-score finds."""
    table = np.stack(list(_rows(right, said)))
    found: set[int] = set()
    i, j = len(right), len(said)
    while i and j:
        if right[i - 1] == said[j - 1]:
            found.add(i - 1)
            i, j = i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return found
