import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.rouge import Rouge

WORDS = [
    "The",
    "cats,",
    "were",
    "running",
    "(quickly)",
    "on",
    "a",
    "Mat.",
    "and",
    "dog's",
    "tables",
    "tabled",
    "3.5",
    "zip_file",
    "organization",
    "a",
    "the",
    "on",
]
each_variant = pytest.mark.parametrize(
    ("variant", "name"), [("1", "rouge1"), ("2", "rouge2"), ("l", "rougeL"), ("lsum", "rougeLsum")]
)


def texts(seed: int, size: int) -> tuple[list[str], list[list[str]]]:
    """Return predictions, and one to three references each, of several lines, some of them empty."""
    draw = random.Random(seed)

    def text() -> str:
        return "\n".join(" ".join(draw.choices(WORDS, k=draw.randint(0, 10))) for _ in range(draw.randint(1, 4)))

    return [text() for _ in range(size)], [[text() for _ in range(draw.randint(1, 3))] for _ in range(size)]


@each_variant
@pytest.mark.parametrize("stem", [False, True])
def test_it_equals_the_rouge_score_package_on_ascii_text(variant, name, stem):
    said, right = texts(1, 120)
    scorer = RougeScorer([name], use_stemmer=stem)
    theirs = [scorer.score_multi(rights, text)[name].fmeasure for text, rights in zip(said, right, strict=True)]
    found = Rouge(variant=variant, stem=stem).score(said, right)
    assert found == pytest.approx(theirs, abs=1e-12)
    assert 0.1 < sum(found) / len(found) < 0.9


@each_variant
def test_each_script_is_read(variant, name):
    for text in ("η γάτα κάθεται", "กรุงเทพ มหา นคร", "кот сидит дома", "बिल्ली बैठी है"):
        assert Rouge(variant=variant).score([text], [[text]]) == [1.0]
        assert Rouge(variant=variant, stem=True).score([text], [[text]]) == [1.0]
        assert RougeScorer([name]).score(text, text)[name].fmeasure == 0  # why this is our own


def test_it_is_the_hand_made_value():
    said, right = "police kill the gunman", "police killed the gunman"
    assert Rouge(variant="1").score([said], [[right]]) == [3 / 4]
    assert Rouge(variant="2").score([said], [[right]]) == [1 / 3]
    assert Rouge(variant="l").score(["the gunman kill police"], [[right]]) == [2 / 4]
    assert Rouge(variant="1", stem=True).score([said], [[right]]) == [1.0]


def test_lsum_joins_what_different_lines_share_with_a_line_of_the_reference():
    right = "w1 w2 w3 w4 w5"  # Lin 2004: the union of w1 w2 and w1 w3 w5 is four of five words
    [score] = Rouge(variant="lsum").score(["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"], [[right]])
    assert score == pytest.approx(2 * 4 / (10 + 5))


@each_variant
def test_the_best_reference_counts_and_nothing_shared_scores_zero(variant, name):
    metric = Rouge(variant=variant)
    assert metric.score(["a b c", "x", "", ""], [["z", "a b c"], ["y"], ["y"], [""]]) == [1.0, 0.0, 0.0, 0.0]
    assert metric.score([], []) == []


def test_an_example_without_a_reference_is_named_by_its_place():
    with pytest.raises(DataError, match="question 1 of 1: it has no right answer to compare with"):
        Rouge().score(["a"], [[]])


def test_its_name_in_a_recipe_may_be_a_number_or_in_capitals():
    assert Metric.read({"kind": "rouge", "variant": 1}).label == "ROUGE-1"
    assert Metric.read({"kind": "rouge", "variant": "Lsum", "stem": True}).label == "ROUGE-Lsum (stems)"
    assert Metric.read("rouge").label == "ROUGE-L"
    with pytest.raises(ValueError, match="'1', '2', 'l' or 'lsum'"):
        Metric.read({"kind": "rouge", "variant": "w"})
