"""Answers against the passages of their prompts: what bears them, and what their citations are worth."""

from collections.abc import Callable, Sequence

import pytest

from burnish.claims import Case, Claim, Grounded, Judged, Statement
from burnish.evaluation.grounding import Reply, cited, grounding
from burnish.failures import Failure
from burnish.metrics import Metric
from burnish.text import words

PASSAGES = ("red green", "blue", "red", "fish")


def bears(passage: str, claim: str) -> bool:
    return set(words(claim)) <= set(words(passage))


def check(cases: Sequence[Case], *, progress: Callable[..., None]) -> list[Judged]:
    """Bear a claim where one passage has all of its words; fail at the word `fail`."""
    progress("checking", len(cases), len(cases))
    return [
        Failure("timeout", "late")
        if "fail" in case.answer
        else Grounded((Claim(case.answer, 1.0, supported=True),))
        if any(bears(passage, case.answer) for passage in case.passages)
        else Grounded((Claim(case.answer, 0.0, supported=False),))
        for case in cases
    ]


def statements(text: str, *, abstained: bool = False) -> tuple[Statement, ...] | Failure:
    [found] = cited([Reply(text, PASSAGES, abstained)], check, progress=lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("text", "borne", "precise"),
    [
        ("Red [1].", True, (True,)),
        ("Red [2].", False, (False,)),
        ("Red.", False, ()),
        ("Red blue [1][2].", True, (True, True)),  # neither alone, and both are needed
        ("Red [1][4].", True, (True, False)),  # a bystander
        ("Red [1][3].", True, (True, True)),  # each alone
        ("Red fish [2][4].", False, (False, False)),  # not borne together, so nothing is precise
        ("Red [1][9].", True, (True, False)),  # a number that no passage has
        ("Red [9].", False, (False,)),
    ],
)
def test_a_statement_and_its_citations(text: str, borne: bool, precise: tuple[bool, ...]) -> None:
    assert statements(text) == (Statement(borne, precise),)


def test_the_metrics_are_those_of_alce() -> None:
    """By hand: of three statements two are borne; of four citations three are precise."""
    found = [statements("Red [1]. Blue [2][4]. Fish. Red green [1].")]
    assert Metric.read("citation_recall").score(found, found) == [3 / 4]
    assert Metric.read("citation_precision").score(found, found) == [3 / 4]


def test_no_citations_and_nothing_said_are_worth_nothing() -> None:
    found = [statements("Red. Blue."), statements("")]
    assert Metric.read("citation_recall").score(found, found) == [0.0, 0.0]
    assert Metric.read("citation_precision").score(found, found) == [0.0, 0.0]


def test_who_abstains_needs_no_citations() -> None:
    found = [statements("The passages do not tell.", abstained=True)]
    for name in ("citation_recall", "citation_precision"):
        assert Metric.read(name).score(found, found) == [1.0]


def test_a_failed_judgement_fails_its_answer_alone() -> None:
    found = cited([Reply(f"{text} [1].", PASSAGES, False) for text in ("Red", "fail")], check, progress=lambda *_: None)
    assert found == [(Statement(True, (True,)),), Failure("timeout", "late")]


def test_grounding_keeps_its_order_with_abstentions_between() -> None:
    replies = [
        Reply("Red", PASSAGES, False),
        Reply("None", PASSAGES, True),
        Reply("Cow", PASSAGES, False),
        Reply("fail", PASSAGES, False),
    ]
    found = grounding(replies, check, progress=lambda *_: None)
    assert [one.score if isinstance(one, Grounded) else one.kind for one in found] == [1.0, 1.0, 0.0, "timeout"]
    assert Metric.read("grounded").score(found[:3], found[:3]) == [1.0, 1.0, 0.0]
