import random
from itertools import zip_longest

import pytest
import sacrebleu

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.bleu import Bleu

WORDS = ["the", "cat,", "sat", "(on)", "a", "Mat.", "and", "dog's", "naïve", "café", "3.5", "zip_file", "—", "Αθήνα"]


def texts(seed: int, size: int) -> tuple[list[str], list[list[str]]]:
    """Return predictions, and one to three references each that share most of their words."""
    draw = random.Random(seed)
    right = [
        [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 3))] for _ in range(size)
    ]
    said = [" ".join(w if draw.random() < 0.8 else draw.choice(WORDS) for w in draw.choice(r).split()) for r in right]
    return said, right


def theirs(said, right, **settings) -> float:
    return sacrebleu.corpus_bleu(said, list(zip_longest(*right)), **settings).score


@pytest.mark.parametrize(("seed", "size"), [(1, 80), (2, 3), (3, 1)])
@pytest.mark.parametrize("settings", [{}, {"lowercase": True}, {"tokenize": "char"}, {"tokenize": "intl"}])
def test_it_equals_sacrebleu_with_one_to_three_references(seed, size, settings):
    said, right = texts(seed, size)
    assert Bleu(**settings).value(said, right) == pytest.approx(theirs(said, right, **settings), abs=1e-9)


def test_sums_of_any_examples_give_the_score_of_those_examples():
    said, right = texts(4, 20)
    sums = Bleu().statistics(said, right)
    halves = Bleu().combine(sums.reshape(2, 10, -1).sum(axis=1))
    assert halves == pytest.approx([theirs(said[:10], right[:10]), theirs(said[10:], right[10:])])
    assert Bleu().combine(sums.reshape(4, 5, 10)).shape == (4, 5)


def test_the_same_text_scores_a_hundred_another_or_none_zero():
    same = "a cat sat on the mat"
    assert Bleu().value([same], [[same]]) == pytest.approx(100)
    assert Bleu().value(["", "dog"], [[same], [same]]) == 0


def test_chinese_is_split_by_its_characters_where_asked():
    said, right = ["我喜欢读书和写字。"], [["我喜欢读书和画画。"]]
    assert Bleu(tokenize="zh").value(said, right) == pytest.approx(theirs(said, right, tokenize="zh"))
    assert Bleu(tokenize="zh").value(said, right) > Bleu().value(said, right)


def test_the_signature_is_sacrebleus():
    said, right = texts(5, 10)
    scorer = sacrebleu.metrics.BLEU(lowercase=True)
    scorer.corpus_score(said, list(zip_longest(*right)))
    assert Bleu(lowercase=True).signature(right) == str(scorer.get_signature())
    assert Bleu().signature([["a", "b"]]).startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_an_example_without_a_reference_is_named_by_its_place():
    with pytest.raises(DataError, match="question 2 of 2: it has no right answer to compare with"):
        Bleu().statistics(["a", "b"], [["a"], []])


def test_its_label_is_the_name_of_the_field_with_what_is_unusual():
    assert Metric.read("bleu").label == "BLEU"
    assert Metric.read({"kind": "bleu", "tokenize": "zh", "lowercase": True}).label == "BLEU (zh, lower case)"
    assert Bleu.bounds == (0, 100)
    assert Bleu().statistics([], []).shape == (0, 10)
