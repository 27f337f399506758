import random

import pytest
import snowballstemmer
from nltk.translate.meteor_score import meteor_score

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.meteor import Meteor
from burnish.text import words

WORDS = [
    "the",
    "cats",
    "cat",
    "were",
    "running",
    "run",
    "quickly",
    "on",
    "a",
    "mat",
    "and",
    "mats",
    "table",
    "tables",
    "tabled",
    "the",
    "a",
]


class Porter:
    """The stemmer that both sides use here."""

    def stem(self, word: str) -> str:
        return snowballstemmer.stemmer("porter").stemWord(word)


class NoStems:
    def stem(self, word: str) -> str:
        return word


class NoSynonyms:
    """A dictionary that knows no word."""

    def synsets(self, word: str) -> list[object]:
        return []


def brute_force(said: list[str], right: list[str], *, alpha=0.9, beta=3.0, gamma=0.5) -> float:
    """Return the score by scanning all pairs from the end, word by word, stage by stage."""
    stem = Porter().stem
    pairs: list[tuple[int, int]] = []
    for form in (str, stem):
        for i in reversed(range(len(said))):
            for j in reversed(range(len(right))):
                free = i not in [a for a, _ in pairs] and j not in [b for _, b in pairs]
                if free and form(said[i]) == form(right[j]):
                    pairs.append((i, j))
    if not pairs:
        return 0.0
    matched = len(pairs)
    chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
    precision, recall = matched / len(said), matched / len(right)
    f = precision * recall / (alpha * precision + (1 - alpha) * recall)
    return f * (1 - gamma * (chunks / matched) ** beta)


def texts(seed: int, size: int) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(seed)
    said = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(size)]
    return said, [
        [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(draw.randint(1, 3))] for _ in said
    ]


def test_it_equals_a_brute_force_of_both_stages():
    said, right = texts(1, 150)
    expected = [max(brute_force(s.split(), r.split()) for r in rights) for s, rights in zip(said, right, strict=True)]
    assert Meteor().score(said, right) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("stem", [True, False])
@pytest.mark.parametrize("settings", [{}, {"alpha": 0.8, "beta": 2.0, "gamma": 0.3}])
def test_it_equals_nltk_without_synonyms(stem, settings):
    said, right = texts(2, 100)
    stemmer = Porter() if stem else NoStems()
    theirs = [
        meteor_score([words(r) for r in rights], words(s), stemmer=stemmer, wordnet=NoSynonyms(), **settings)
        for s, rights in zip(said, right, strict=True)
    ]
    assert Meteor(stem=stem, **settings).score(said, right) == pytest.approx(theirs, abs=1e-12)


def test_it_is_the_hand_made_value():
    # 4 of 5 and 4 of 4 words match in 2 chunks
    f = 0.8 / (0.9 * 0.8 + 0.1)
    assert Meteor().score(["the cat really sat down"], [["the cat sat down"]]) == pytest.approx([f * (1 - 0.5 / 8)])


def test_the_same_text_scores_almost_one_and_a_stem_counts_like_a_word():
    assert Meteor().score(["one two three four"], [["one two three four"]]) == pytest.approx([1 - 0.5 / 4**3])
    assert Meteor().score(["cats running"], [["cat runs"]]) == pytest.approx([1 - 0.5 / 2**3])
    assert Meteor(stem=False).score(["cats running"], [["cat runs"]]) == [0.0]


def test_the_best_reference_counts_and_nothing_shared_scores_zero():
    assert Meteor().score(["a b", "x", "", "?"], [["z", "a b"], ["y"], ["y"], [""]]) == pytest.approx([0.9375, 0, 0, 0])
    assert Meteor().score([], []) == []


def test_other_scripts_are_matched_word_by_word():
    assert Meteor().score(["Η γάτα κάθεται"], [["η ΓΆΤΑ κοιμάται"]])[0] > 0.5


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_score_stays_within_its_bounds_at_extreme_settings(alpha):
    said, right = texts(3, 60)
    assert all(0 <= score <= 1 for score in Meteor(alpha=alpha, beta=0, gamma=1).score(said, right))


def test_an_example_without_a_reference_is_named_by_its_place():
    with pytest.raises(DataError, match="question 1 of 1: it has no right answer to compare with"):
        Meteor().score(["a"], [[]])


def test_its_label_says_which_stages_ran():
    assert Metric.read("meteor").label == "METEOR (exact, stem)"
    assert Metric.read({"kind": "meteor", "stem": False}).label == "METEOR (exact)"
