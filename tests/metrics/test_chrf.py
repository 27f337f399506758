import random
from itertools import zip_longest

import pytest
import sacrebleu

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.chrf import Chrf

WORDS = [
    "the",
    "cat,",
    "sat",
    "(on)",
    "a",
    "Mat.",
    "and",
    "dog's",
    "naïve",
    "我喜欢读书",
    "กรุงเทพ",
    "3.5",
    "zip_file",
    "Αθήνα",
]


def texts(seed: int, size: int) -> tuple[list[str], list[list[str]]]:
    """Return predictions, and one to three references each that share most of their words."""
    draw = random.Random(seed)
    right = [
        [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(draw.randint(1, 3))] for _ in range(size)
    ]
    said = [" ".join(w if draw.random() < 0.8 else draw.choice(WORDS) for w in draw.choice(r).split()) for r in right]
    return said, right


def theirs(said, right, *, words=0) -> float:
    return sacrebleu.corpus_chrf(said, list(zip_longest(*right)), word_order=words).score


@pytest.mark.parametrize(("seed", "size"), [(1, 60), (2, 3), (3, 1)])
@pytest.mark.parametrize("words", [0, 2])
def test_it_equals_sacrebleu_with_one_to_three_references(seed, size, words):
    said, right = texts(seed, size)
    assert Chrf(words=words).value(said, right) == pytest.approx(theirs(said, right, words=words), abs=1e-9)


def test_case_does_not_matter_where_it_is_ignored():
    assert Chrf(lowercase=True).value(["THE MAT"], [["the Mat"]]) == pytest.approx(100)
    assert Chrf().value(["THE MAT"], [["the Mat"]]) < 10


def test_sums_of_any_examples_give_the_score_of_those_examples():
    said, right = texts(4, 20)
    sums = Chrf(words=2).statistics(said, right)
    halves = Chrf(words=2).combine(sums.reshape(2, 10, -1).sum(axis=1))
    assert halves == pytest.approx([theirs(said[:10], right[:10], words=2), theirs(said[10:], right[10:], words=2)])


def test_the_same_text_scores_a_hundred_another_or_none_zero():
    assert Chrf().value(["กรุงเทพมหานคร"], [["กรุงเทพมหานคร"]]) == pytest.approx(100)
    assert Chrf().value(["", "xyz"], [["abc"], ["abc"]]) == 0


def test_the_signature_is_sacrebleus():
    said, right = texts(5, 10)
    scorer = sacrebleu.metrics.CHRF(word_order=2)
    scorer.corpus_score(said, list(zip_longest(*right)))
    assert Chrf(words=2).signature(right) == str(scorer.get_signature())


def test_an_example_without_a_reference_is_named_by_its_place():
    with pytest.raises(DataError, match="question 1 of 1: it has no right answer to compare with"):
        Chrf().statistics(["a"], [[]])


def test_its_label_is_the_name_of_the_field_with_what_is_unusual():
    assert Metric.read("chrf").label == "chrF"
    assert Metric.read({"kind": "chrf", "words": 2}).label == "chrF++"
    assert Metric.read({"kind": "chrf", "lowercase": True}).label == "chrF (lower case)"
    assert Chrf.bounds == (0, 100)
    assert Chrf(words=1).statistics([], []).shape == (0, 21)
