"""METEOR: words that match, also by their stem, less for being out of order."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from pydantic import Field

from burnish.metrics import Answers, Metric, require_answers
from burnish.text import words


class Meteor(Metric):
    """METEOR in two stages, exact words and then stems (Porter), against the best of the references; no synonyms.

    With m matches in c chunks (runs of matches adjacent on both sides), P = m / words said and R = m / words of the
    reference: F = P·R / (alpha·P + (1 − alpha)·R), and the score is F · (1 − gamma·(c / m)^beta).
    Each stage goes through the prediction from its end and gives every word the last free match of the reference: the
    alignment, the formula and the defaults of NLTK, with which METEOR is mostly reported, though its tokens differ:
    here the words of `burnish.text.words`. The original tool searches for the fewest chunks instead, and can match
    synonyms from WordNet: its numbers are not comparable. Range 0…1; a text scores 1 − gamma / m³ against itself.
    Source: Banerjee and Lavie 2005 (aclanthology W05-0909), Lavie and Agarwal 2007 (aclanthology W07-0734).
    """

    stem: bool = True
    alpha: float = Field(default=0.9, ge=0, le=1)  # towards 1, recall alone counts
    beta: float = Field(default=3.0, ge=0)
    gamma: float = Field(default=0.5, ge=0, le=1)

    @property
    def label(self) -> str:
        """The name with the stages that ran: `METEOR (exact, stem)`."""
        return f"METEOR (exact{', stem' if self.stem else ''})"

    def score(self, predictions: Sequence[str], references: Sequence[Answers]) -> list[float]:
        """Return the score of each text against the best of its references.

        Raises:
            DataError: an example has no reference: callers leave such examples out beforehand, and count them.
        """
        forms: list[Callable[[str], str]] = [str]
        if self.stem:
            from snowballstemmer import stemmer

            forms.append(stemmer("porter").stemWord)
        scores = []
        for text, rights in zip(predictions, require_answers(references), strict=True):
            said = words(text)
            scores.append(max(self._one(said, words(right), forms) for right in rights))
        return scores

    def _one(self, said: Sequence[str], right: Sequence[str], forms: Sequence[Callable[[str], str]]) -> float:
        """Return the score against one reference."""
        pairs = _alignment(said, right, forms)
        if not pairs:
            return 0.0
        precision, recall = len(pairs) / len(said), len(pairs) / len(right)
        f = precision * recall / (self.alpha * precision + (1 - self.alpha) * recall)
        jumps = sum((i + 1, j + 1) != after for (i, j), after in pairwise(pairs))
        penalty: float = self.gamma * ((jumps + 1) / len(pairs)) ** self.beta
        return f * (1 - penalty)


def _alignment(
    said: Sequence[str], right: Sequence[str], forms: Sequence[Callable[[str], str]]
) -> list[tuple[int, int]]:
    """Return the matched places (in `said`, in `right`), in order; a word is matched once, in the first form it can."""
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for form in forms:
        free = defaultdict(list)
        for j, word in enumerate(right):
            if j not in taken:
                free[form(word)].append(j)
        for i in range(len(said) - 1, -1, -1):
            if i not in pairs and (places := free.get(form(said[i]))):
                pairs[i] = places.pop()
                taken.add(pairs[i])
    return sorted(pairs.items())
