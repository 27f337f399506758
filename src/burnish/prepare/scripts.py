"""Which scripts texts are written in."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

import regex

OTHER = "other"
_SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gujarati", "Gurmukhi", "Tamil"),
    *("Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Georgian"),
    *("Armenian", "Ethiopic", "Hangul", "Han", "Hiragana", "Katakana"),
)


def script_shares(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of each Unicode script among the texts' letters, the largest first; they add up to 1.

    A script says little of the language: Latin is English, Vietnamese and Swahili alike. Without letters, nothing.
    """
    letters = Counter(sign for text in texts for sign in text if sign.isalpha())
    found: Counter[str] = Counter()
    for sign, count in letters.items():
        found[_script(sign)] += count
    return {name: count / found.total() for name, count in found.most_common()}


@cache
def _script(sign: str) -> str:
    return next((name for name in _SCRIPTS if regex.fullmatch(rf"\p{{Script={name}}}", sign)), OTHER)
