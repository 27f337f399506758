import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.mrr import Mrr


def test_mrr_is_one_over_the_rank_of_the_first_relevant_passage():
    grades = {"a": 1, "b": 2}
    rankings = [["a", "b"], ["x", "b", "a"], ["x", "y", "z", "a"]]
    assert Mrr(k=10).score(rankings, [grades] * 3) == [1.0, 1 / 2, 1 / 4]


def test_nothing_relevant_among_the_first_k_scores_zero():
    assert Mrr(k=2).score([["x", "y", "a"], []], [{"a": 1}] * 2) == [0.0, 0.0]


def test_a_passage_graded_zero_is_not_relevant():
    assert Mrr().score([["x", "a"]], [{"x": 0, "a": 1}]) == [0.5]


def test_no_questions_give_no_scores():
    assert Mrr().score([], []) == []


def test_a_question_without_a_relevant_passage_is_named_by_its_position():
    with pytest.raises(DataError, match=r"question 1 of 1: .* MRR@10 is not defined"):
        Mrr().score([["a"]], [{}])


def test_its_name_in_a_recipe_is_its_name_in_a_table():
    assert Metric.read("MRR@10") == Mrr(k=10)
    assert Metric.read("mrr@5").label == "MRR@5"
