"""The claims of an answer, and its score."""

from burnish.claims import Claim, Grounded, claims_of, sentences
from burnish.failures import Failure, counted, in_words


def test_an_answer_claims_its_sentences() -> None:
    assert claims_of("Paris is the capital. It has 2.1 million people! Is it big? Yes") == [
        "Paris is the capital.",
        "It has 2.1 million people!",
        "Is it big?",
        "Yes",
    ]


def test_a_sentence_does_not_end_in_an_abbreviation_or_a_number() -> None:
    assert sentences("Dr. Who met J. Doe, e.g. at home. Then she left.") == [
        "Dr. Who met J. Doe, e.g. at home.",
        "Then she left.",
    ]


def test_tokenized_text_ends_at_its_points() -> None:
    assert sentences("i love it . it is good .") == ["i love it .", "it is good ."]


def test_lines_are_claims_of_their_own_and_their_numbers_are_none() -> None:
    assert claims_of("1. First thing\n2. Second thing.\n- third\n") == ["1. First thing", "2. Second thing.", "- third"]


def test_citations_stand_with_their_sentence_and_are_no_part_of_its_claim() -> None:
    text = "Rome fell [1]. Then it rose.[2] It is old. [3, 4] End"
    assert sentences(text) == ["Rome fell [1].", "Then it rose.[2]", "It is old. [3, 4]", "End"]
    assert claims_of(text) == ["Rome fell.", "Then it rose.", "It is old.", "End"]
    assert claims_of("[1]") == []


def test_nothing_said_claims_nothing_and_scores_0() -> None:
    assert claims_of("") == claims_of("...") == []
    assert Grounded(()).score == 0.0
    assert not Grounded(()).faithful


def test_an_answer_is_as_grounded_as_its_least_supported_claim() -> None:
    many = tuple(Claim("true", 1.0, supported=True) for _ in range(99))
    found = Grounded((*many, Claim("made up", 0.1, supported=False)))
    assert found.score == 0.1
    assert not found.faithful
    assert Grounded(many).faithful


def test_failures_are_counted_by_kind() -> None:
    found = [Failure("timeout", "a"), "text", Failure("garbage", "b"), Failure("timeout", "c"), None]
    assert counted(found) == {"timeout": 2, "garbage": 1}
    assert in_words(counted(found), 5) == "3 of 5 (2 timeout, 1 garbage)"
    assert counted(["text"]) == {}
