import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.exact_match import ExactMatch


def test_case_punctuation_articles_and_spacing_do_not_matter():
    answers = ["The  zipfile.is_zipfile!", "`zipfile.is_zipfile`", "zipfile.is_zip"]
    assert ExactMatch().score(answers, [["zipfile.is_zipfile"]] * 3) == [1.0, 1.0, 0.0]


def test_the_best_of_the_right_answers_counts():
    assert ExactMatch().score(["two", "three"], [["2", "Two"], ["2", "two"]]) == [1.0, 0.0]


def test_a_longer_answer_that_holds_the_right_one_is_not_a_match():
    assert ExactMatch().score(["it is os.walk"], [["os.walk"]]) == [0.0]


def test_an_empty_answer_is_wrong_and_no_questions_give_no_scores():
    assert ExactMatch().score([""], [["os.walk"]]) == [0.0]
    assert ExactMatch().score([], []) == []


def test_other_scripts_are_compared_as_they_are():
    assert ExactMatch().score(["Αθήνα", "กรุงเทพ"], [["αθήνα"], ["เชียงใหม่"]]) == [1.0, 0.0]


def test_a_question_without_a_right_answer_is_named_by_its_position():
    with pytest.raises(DataError, match="question 2 of 2: it has no right answer"):
        ExactMatch().score(["a", "b"], [["a"], []])


def test_its_label_is_the_name_of_the_field():
    assert Metric.read("exact_match").label == "exact match"
