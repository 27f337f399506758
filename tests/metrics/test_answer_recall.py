import random

import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.answer_recall import AnswerRecall
from burnish.text import words


def test_an_answer_is_found_word_for_word_in_the_first_passages():
    passages = ["A cart.", "The car,\nit is RED", "a bus"]
    found = AnswerRecall(k=2).score([passages] * 5, [["car"], ["bus"], ["it is red!"], ["ca"], ["bus", "cart"]])
    assert found == [1, 0, 1, 0, 1]
    assert AnswerRecall(k=3).score([passages], [["bus"]]) == [1]
    assert AnswerRecall().score([[]], [["car"]]) == [0]


def test_scores_are_those_of_a_search_by_hand():
    draw = random.Random(0)

    def text(most: int) -> str:
        return " ".join(draw.choice(["a", "b", "c-d", "É"]) for _ in range(draw.randint(1, most)))

    for _ in range(200):
        passages, answers = [text(6) for _ in range(4)], [text(3) for _ in range(2)]
        spans = [
            words(passage)[start : start + len(words(answer))]
            for passage in passages[:3]
            for answer in answers
            for start in range(len(words(passage)))
        ]
        expected = float(any(words(answer) in spans for answer in answers))
        assert AnswerRecall(k=3).score([passages], [answers]) == [expected]


def test_a_question_without_an_answer_is_named():
    with pytest.raises(DataError, match="question 2 of 2"):
        AnswerRecall().score([["a"], ["b"]], [["a"], []])


def test_its_name_in_a_recipe_tells_how_many_passages_count():
    assert Metric.read("answer_recall@3") == AnswerRecall(k=3)
    assert AnswerRecall(k=3).label == "answer recall@3"
