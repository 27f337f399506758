from math import log2

import pytest

from burnish.errors import DataError, RecipeError
from burnish.metrics import Metric
from burnish.metrics.ndcg import Ndcg


def test_ndcg_is_the_hand_made_value():
    ranking = ["x", "a", "y", "b"]
    grades = {"a": 3, "b": 1, "c": 2}
    found = 3 / log2(3) + 1 / log2(5)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert Ndcg(k=10).score([ranking], [grades]) == pytest.approx([found / ideal])


def test_ndcg_reads_only_the_first_k_and_cuts_the_ideal_alike():
    grades = {"a": 1, "b": 1}
    assert Ndcg(k=1).score([["a", "x", "b"], ["x", "a", "b"]], [grades, grades]) == [1.0, 0.0]


def test_a_perfect_ranking_scores_one_and_an_empty_one_zero():
    grades = {"a": 1, "b": 3, "c": 0, "d": -1}
    assert Ndcg().score([["b", "a", "d", "c"], []], [grades, grades]) == [1.0, 0.0]


def test_a_passage_graded_below_one_gains_nothing():
    assert Ndcg().score([["bad", "none", "a"]], [{"bad": -2, "none": 0, "a": 1}]) == pytest.approx([1 / log2(4)])


def test_no_questions_give_no_scores():
    assert Ndcg().score([], []) == []


def test_a_question_without_a_relevant_passage_is_named_by_its_position():
    with pytest.raises(DataError, match=r"question 2 of 2: .* nDCG@5 is not defined"):
        Ndcg(k=5).score([["a"], ["a"]], [{"a": 1}, {"a": 0}])


def test_a_ranking_that_holds_a_passage_twice_is_our_own_mistake():
    with pytest.raises(AssertionError, match="a ranking holds a passage twice"):
        Ndcg().score([["a", "a"]], [{"a": 1}])


def test_its_name_in_a_recipe_is_its_name_in_a_table():
    metric = Metric.read("nDCG@10")
    assert metric == Ndcg(k=10)
    assert metric.label == "nDCG@10"
    assert Metric.read({"kind": "ndcg", "k": 3}).label == "nDCG@3"


def test_a_misspelt_metric_names_the_nearest():
    with pytest.raises(RecipeError, match=r"no metric is called 'ndgc'\. Did you mean 'ndcg'\?"):
        Metric.read("nDGC@10")


def test_k_is_at_least_one():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Metric.read("nDCG@0")
