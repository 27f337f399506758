import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.token_f1 import TokenF1


def test_f1_is_the_hand_made_value():
    said, right = "the big red fox", "a red fox ran"  # big red fox, red fox ran: precision 2/3, recall 2/3
    assert TokenF1().score([said], [[right]]) == pytest.approx([2 / 3])


def test_a_token_counts_as_often_as_it_is_said_on_both_sides():
    assert TokenF1().score(["no no no no"], [["no no yes yes"]]) == pytest.approx([1 / 2])


def test_the_best_of_the_right_answers_counts():
    assert TokenF1().score(["red fox"], [["grey wolf", "red fox ran"]]) == pytest.approx([4 / 5])


def test_squad_tokens_take_a_dotted_name_as_a_whole():
    assert TokenF1().score(["zipfile.is_tarfile"], [["zipfile.is_zipfile"]]) == [0.0]


def test_words_split_a_dotted_name_at_dots_and_underscores():
    scores = TokenF1(tokens="words").score(["zipfile.is_tarfile"], [["zipfile.is_zipfile"]])
    assert scores == pytest.approx([2 / 3])


@pytest.mark.parametrize("tokens", ["squad", "words"])
def test_the_right_answer_scores_one_and_a_foreign_one_zero(tokens):
    metric = TokenF1(tokens=tokens)
    assert metric.score(["os.walk", "json"], [["os.walk"], ["os.walk"]]) == [1.0, 0.0]


@pytest.mark.parametrize("tokens", ["squad", "words"])
def test_without_tokens_on_a_side_only_another_empty_side_matches(tokens):
    metric = TokenF1(tokens=tokens)
    assert metric.score(["", "...", "fox", "?"], [["fox"], ["fox"], ["!"], ["!"]]) == [0.0, 0.0, 0.0, 1.0]


def test_no_questions_give_no_scores():
    assert TokenF1().score([], []) == []


def test_a_question_without_a_right_answer_is_named_by_its_position():
    with pytest.raises(DataError, match="question 1 of 1: it has no right answer"):
        TokenF1().score(["a"], [[]])


def test_its_label_is_the_name_of_the_field():
    assert Metric.read({"kind": "token_f1", "tokens": "words"}).label == "token F1"
