"""Grounding by words."""

import pytest

from burnish.claims import Case, Grounded
from burnish.grounding import Grounder

PASSAGE = "Marie Curie was born in Warsaw in 1867. She won two Nobel Prizes. She did not found the University of Paris."


def judged(answer: str, *passages: str) -> Grounded:
    [found] = Grounder.read("lexical").load()([Case(passages or (PASSAGE,), answer)], progress=lambda *_: None)
    assert isinstance(found, Grounded)
    return found


@pytest.mark.parametrize(
    "answer",
    [
        "Curie was born in Warsaw.",
        "She was born in 1867 in Warsaw, and won a Nobel Prize.",  # two sentences of the passage
        "Two Nobel prize.",  # other forms of the words
        "Curie didn't found the University of Paris.",
        "Warsaw [1].",
    ],
)
def test_what_the_passage_says_is_supported(answer: str) -> None:
    assert judged(answer).score == 1.0
    assert judged(answer).faithful


@pytest.mark.parametrize(
    ("answer", "support"),
    [
        ("Curie was born in 1868 in Warsaw.", 0.0),  # a number that is not there
        ("Curie was not born in Warsaw.", 0.0),
        ("Curie founded the University of Paris.", 0.25),  # denied there: of the rest, her name
        ("Curie was born in Berlin.", 2 / 3),
        ("Tigers eat meat.", 0.0),
    ],
)
def test_what_it_does_not_say_is_not(answer: str, support: float) -> None:
    assert judged(answer).score == pytest.approx(support)
    assert not judged(answer).faithful


def test_a_negation_of_something_else_opposes_nothing() -> None:
    text = "The owner, who never lied, bought the house in Rome."
    assert judged("The owner bought the house in Rome.", text).score == 1.0
    assert judged("The owner never bought the house in Rome.", text).score == 0.0


def test_one_claim_that_stands_nowhere_takes_the_answer_down() -> None:
    found = judged("Curie was born in Warsaw. She won two Nobel Prizes. Tigers eat meat.")
    assert [claim.supported for claim in found.claims] == [True, True, False]
    assert found.score == 0.0


def test_the_best_passage_bears_the_claim_and_no_two_add_up() -> None:
    found = judged("Curie won two prizes.", "Warsaw is a town.", PASSAGE)
    assert found.claims[0].passage == 1
    assert judged("Rome and Paris are towns.", "Rome is a town.", "Paris is a town.").score == pytest.approx(2 / 3)


def test_small_words_alone_are_compared_as_they_are() -> None:
    assert judged("They were here.", "They were here before.").score == 1.0
    assert judged("Yes.").score == 0.0


def test_without_passages_nothing_is_supported_and_nothing_fails() -> None:
    check = Grounder.read("lexical").load()
    [found] = check([Case((), "Warsaw.")], progress=lambda *_: None)
    assert isinstance(found, Grounded)
    assert found.claims[0].support == 0.0
    assert found.claims[0].passage is None
    assert check([], progress=lambda *_: None) == []


def test_the_threshold_moves_the_verdict_and_not_the_score() -> None:
    [found] = Grounder.read({"kind": "lexical", "threshold": 0.5}).load()(
        [Case((PASSAGE,), "Curie was born in Berlin.")], progress=lambda *_: None
    )
    assert isinstance(found, Grounded)
    assert found.faithful
    assert found.score == pytest.approx(2 / 3)
