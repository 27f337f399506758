"""The best of several answers against the worst, and why there is no pair where a rank cannot tell."""

import pytest

from burnish.errors import DataError
from burnish.prepare import preferences
from burnish.prepare.preferences import Choice, choose, distinct


def chosen(*scored: tuple[str, float], gap: float = 0.1) -> Choice:
    found = distinct([text for text, _ in scored])
    known = dict(scored)
    return choose(found, [known[text] for text, _ in found], gap=gap)


def test_the_best_is_preferred_to_the_worst() -> None:
    choice = chosen(("fair", 0.5), ("bad", 0.0), ("good", 1.0))
    assert (choice.chosen.text, choice.rejected.text, choice.gap) == ("good", "bad", 1.0)
    assert (choice.reason, choice.tied) == ("", False)


def test_of_equal_answers_the_one_drawn_more_often_stands_for_them() -> None:
    texts = ["right", "Right too", "wrong", "right too!", "false", "false"]
    found = distinct(texts)
    assert found == [("right", 1), ("Right too", 2), ("wrong", 1), ("false", 2)]
    choice = choose(found, [1.0, 1.0, 0.0, 0.0], gap=0.5)
    assert (choice.chosen.text, choice.rejected.text, choice.tied) == ("Right too", "false", True)
    assert len(choice.answers) == 4


def test_a_prompt_without_a_pair_says_why() -> None:
    assert chosen(("one", 0.3)).reason == preferences.ALIKE
    assert chosen(("one", 0.3), ("two", 0.3)).reason == preferences.UNANIMOUS
    assert chosen(("one", 0.3), ("two", 0.25)).reason == preferences.NEAR
    assert choose(distinct(["", "  "]), [], gap=0.1).reason == preferences.EMPTY
    assert chosen(("one", 0.5), ("two", 0.25), gap=0.25).reason == ""


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="an answer was scored nan"):
        chosen(("one", float("nan")), ("two", 1.0))
