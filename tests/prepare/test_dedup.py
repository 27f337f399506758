import random

import pytest

from burnish.prepare.dedup import (
    clusters,
    containment,
    exact_duplicates,
    near_duplicates,
    similar_pairs,
    word_shingles,
)
from burnish.text import words

WORDS = [f"w{number}" for number in range(400)]


def document(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def changed(text: str, place: int) -> str:
    found = text.split()
    found[place] = "other"
    return " ".join(found)


def shingles(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + 5]) for start in range(len(found) - 4)}


def test_equal_in_normal_form_is_equal():
    assert exact_duplicates(["A b!", "c", "a  B", "c?", "", "!", "?", "!"]) == [0, 1, 0, 1, 4, 5, 6, 5]


def test_near_duplicates_are_those_that_brute_force_finds():
    texts = [document(seed) for seed in range(40)]
    texts += [changed(text, place) for place, text in enumerate(texts[:20])]
    expected = []
    for one in range(len(texts)):
        for other in range(one + 1, len(texts)):
            a, b = shingles(texts[one]), shingles(texts[other])
            if len(a & b) / len(a | b) >= 0.8:
                expected.append((one, other))
    assert len(expected) > 10
    assert near_duplicates(texts) == expected
    assert near_duplicates(texts, seed=7) == expected


def test_a_lower_threshold_finds_more():
    texts = [document(1), changed(document(1), 30), document(2)]
    assert near_duplicates(texts, threshold=0.99) == []
    [pair] = similar_pairs(texts, threshold=0.5)
    assert (pair.first, pair.second) == (0, 1)
    assert pair.similarity == pytest.approx(51 / 61)


def test_short_texts_are_compared_by_characters():
    assert near_duplicates(["Return the size of the write buffer.", "Return the size of the write buffers", "x"]) == [
        (0, 1)
    ]


def test_a_short_text_is_compared_with_one_just_over_the_limit():
    short = " ".join(WORDS[:19])
    assert near_duplicates([short, short + " w19"]) == [(0, 1)]


def test_equal_texts_pair_with_the_first():
    assert near_duplicates(["a b", "A b", "a, b"]) == [(0, 1), (0, 2)]


def test_texts_without_words_are_no_near_duplicates():
    assert near_duplicates(["", "!!", "??"]) == []
    assert near_duplicates([]) == []


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(["a"], threshold=0)


def test_clusters_join_what_is_connected():
    assert clusters(6, [(4, 5), (1, 4), (2, 3)]) == [0, 1, 2, 2, 1, 1]
    assert clusters(0, []) == []


def test_containment_is_one_when_a_text_stands_inside_the_other():
    whole = document(3)
    part = " ".join(whole.split()[10:30])
    assert containment(word_shingles(part), word_shingles(whole)) == 1
    assert containment(word_shingles(whole), word_shingles(document(4))) == 0
    assert containment(word_shingles(""), word_shingles(whole)) == 0
