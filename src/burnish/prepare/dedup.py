"""Exact and near-duplicate texts.

Two texts are equal when their normal forms are. They are near-duplicates when their sets of shingles have a Jaccard
similarity of at least a threshold; MinHash finds candidates (Broder 1997), and each is then verified.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from burnish.text import normal, words

_SHINGLE = 5  # words or characters
_FEW_WORDS = 20  # a pair with a shorter text is compared by characters: one changed word breaks five word shingles
_HASHES = 128
_MOST_MISSED = 1e-4  # odds of missing a pair that is just at the threshold

_Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Similar:
    """Two places in a list of texts, the lower first, and the Jaccard similarity of their shingles."""

    first: int
    second: int
    similarity: float


def exact_duplicates(texts: Sequence[str]) -> list[int]:
    """Return for each text the place of the first that equals it in normal form: its own, if it is the first.

    Texts without any word are equal only when they are the same characters.
    """
    first: dict[str, int] = {}
    return [first.setdefault(_key(text), place) for place, text in enumerate(texts)]


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.8, seed: int = 0) -> list[tuple[int, int]]:
    """Return the pairs of places whose texts are equal or near-duplicates, in ascending order.

    threshold: Jaccard similarity in (0, 1]. Texts are compared by shingles of five words, or of five characters where
    one of the two has fewer than 20 words. Of equal texts, each is paired with the first alone, and only the first
    with others: `clusters` joins them all.
    """
    return [(pair.first, pair.second) for pair in similar_pairs(texts, threshold=threshold, seed=seed)]


def similar_pairs(texts: Sequence[str], *, threshold: float = 0.8, seed: int = 0) -> list[Similar]:
    """Return what `near_duplicates` does, with the similarities; equal texts have 1.

    Every pair is verified. A pair at the threshold is missed with odds of 1 in 10,000, a closer one with less.

    Raises:
        ValueError: the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1 (found {threshold})")
    first = exact_duplicates(texts)
    pairs = [Similar(same, place, 1.0) for place, same in enumerate(first) if same != place]
    split = [(place, words(text)) for place, text in enumerate(texts) if first[place] == place]
    long = [(place, found) for place, found in split if len(found) >= _FEW_WORDS]
    pairs += _similar([p for p, _ in long], [_word_shingles(found) for _, found in long], threshold, seed)
    # a text much longer than its short partner cannot reach the threshold: a fifth more words suffices at 0.8
    reach = int(_FEW_WORDS / threshold) + _SHINGLE
    near = [(place, found) for place, found in split if 0 < len(found) < reach]
    few = {place for place, found in near if len(found) < _FEW_WORDS}
    by_character = _similar([p for p, _ in near], [_character_shingles(found) for _, found in near], threshold, seed)
    pairs += [pair for pair in by_character if pair.first in few or pair.second in few]
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def clusters(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of n places the lowest place that pairs connect it to, directly or through others."""
    parent = list(range(n))
    for first, second in pairs:
        low, high = sorted((root(parent, first), root(parent, second)))
        parent[high] = low
    return [root(parent, place) for place in range(n)]


def word_shingles(text: str) -> frozenset[int]:
    """Return the hashes of a text's runs of five words; of the whole text where it is shorter, of none if empty."""
    return frozenset(_word_shingles(words(text)).tolist())


def containment(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of the smaller set of shingles that the other set holds too, from 0 to 1.

    It is 1 when one text stands inside the other, and never below the Jaccard similarity.
    """
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 0.0


def root(parent: list[int], place: int) -> int:
    """Return the place that stands for another in a union-find list, halving the path to it."""
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


def _key(text: str) -> str:
    """Return what equal texts share."""
    return normal(text) or f"\0{text}"


def _hash(text: str) -> int:
    """Return 64 bits that depend on nothing but the text, unlike Python's own hash."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _word_shingles(found: Sequence[str]) -> _Hashes:
    """Return the distinct hashes of a text's runs of five words; of the whole text where it is shorter."""
    count = max(len(found) - _SHINGLE + 1, min(len(found), 1))
    return _distinct(" ".join(found[start : start + _SHINGLE]) for start in range(count))


def _character_shingles(found: Sequence[str]) -> _Hashes:
    """Return the distinct hashes of the runs of five characters in a text's normal form."""
    text = " ".join(found)
    return _distinct(text[start : start + _SHINGLE] for start in range(max(len(text) - _SHINGLE + 1, 1)))


def _distinct(shingles: Iterable[str]) -> _Hashes:
    """Return the hashes of the distinct shingles, in the order in which they first come."""
    return np.array([_hash(shingle) for shingle in dict.fromkeys(shingles)], dtype=np.uint64)


def _similar(places: Sequence[int], shingles: Sequence[_Hashes], threshold: float, seed: int) -> list[Similar]:
    """Return the verified pairs among distinct texts, each with at least one shingle."""
    sets: dict[int, frozenset[int]] = {}
    found = []
    for one, other in _candidates(shingles, threshold, seed):
        for row in (one, other):
            if row not in sets:
                sets[row] = frozenset(shingles[row].tolist())
        shared = len(sets[one] & sets[other])
        similarity = shared / (len(sets[one]) + len(sets[other]) - shared)
        if similarity >= threshold:
            found.append(Similar(places[one], places[other], similarity))
    return found


def _candidates(shingles: Sequence[_Hashes], threshold: float, seed: int) -> list[tuple[int, int]]:
    """Return the pairs of rows whose signatures agree in at least one band."""
    if len(shingles) < 2:
        return []
    signatures = _signatures(shingles, seed)
    rows = _band_rows(threshold)
    found: set[tuple[int, int]] = set()
    for start in range(0, _HASHES - rows + 1, rows):
        for group in _equal_rows(signatures[:, start : start + rows]):
            found.update(combinations(group, 2))
    return sorted(found)


def _signatures(shingles: Sequence[_Hashes], seed: int) -> _Hashes:
    """Return the MinHash signatures, (texts, hashes): per hash function the least value over a text's shingles."""
    starts = np.cumsum([0, *(len(part) for part in shingles[:-1])])
    flat = np.concatenate(shingles)
    multipliers = np.random.default_rng(seed).integers(0, 2**64, size=(_HASHES, 2), dtype=np.uint64) | np.uint64(1)
    signatures = np.empty((len(shingles), _HASHES), dtype=np.uint64)
    for column, (one, other) in enumerate(multipliers):
        mixed = flat * one  # wraps around at 2**64, as it should
        mixed ^= mixed >> np.uint64(32)
        mixed *= other
        signatures[:, column] = np.minimum.reduceat(mixed, starts)
    return signatures


def _band_rows(threshold: float) -> int:
    """Return the longest band, in hashes, that misses a pair at the threshold with odds of at most _MOST_MISSED."""
    fits = [rows for rows in range(1, 33) if (1 - threshold**rows) ** (_HASHES // rows) <= _MOST_MISSED]
    return max(fits, default=1)


def _equal_rows(band: _Hashes) -> Iterator[list[int]]:
    """Yield the groups of two or more rows that are equal, each in ascending order."""
    order = np.lexsort(band.T)
    ordered = band[order]
    changes = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    for group in np.split(order, changes):
        if len(group) > 1:
            yield sorted(group.tolist())
