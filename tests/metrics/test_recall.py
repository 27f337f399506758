import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.metrics.recall import Recall


def test_recall_is_the_share_of_the_relevant_passages_found():
    grades = {"a": 1, "b": 2, "c": 1, "x": 0}
    assert Recall(k=3).score([["a", "x", "b", "c"]], [grades]) == [2 / 3]


def test_a_ranking_with_all_relevant_passages_among_the_first_k_scores_one():
    assert Recall(k=2).score([["b", "a"], ["a"]], [{"a": 1, "b": 1}, {"a": 1}]) == [1.0, 1.0]


def test_more_relevant_passages_than_k_bound_the_recall():
    assert Recall(k=1).score([["a", "b"]], [{"a": 1, "b": 1}]) == [0.5]


def test_an_empty_ranking_scores_zero_and_no_questions_give_no_scores():
    assert Recall().score([[]], [{"a": 1}]) == [0.0]
    assert Recall().score([], []) == []


def test_a_question_without_a_relevant_passage_is_named_by_its_position():
    with pytest.raises(DataError, match=r"question 3 of 3: .* Recall@10 is not defined"):
        Recall().score([["a"]] * 3, [{"a": 1}, {"a": 1}, {"a": -1}])


def test_its_name_in_a_recipe_is_its_name_in_a_table():
    assert Metric.read("Recall@10") == Recall(k=10)
    assert Metric.read("Recall@1").label == "Recall@1"
