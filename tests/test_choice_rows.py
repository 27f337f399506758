"""Rows of choices, and templates that make them of labelled texts."""

from typing import Any

import pytest
from pydantic import ValidationError

from burnish.choice_rows import Choice, Template
from burnish.errors import DataError
from burnish.records import Labelled, Message


def test_an_answer_is_a_choice_or_its_number() -> None:
    choices = ("no", "yes")
    assert Choice(id="1", prompt="?", choices=choices, answer="yes").answer == "yes"
    assert Choice.model_validate({"id": "1", "prompt": "?", "choices": choices, "answer": 0}).answer == "no"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"choices": ("no", "yes"), "answer": 2}, "answer 2 is the number of none of the 2 choices"),
        ({"choices": ("no", "yes"), "answer": "maybe"}, "the answer 'maybe' is none of the choices: 'no', 'yes'"),
        ({"choices": ("no", "no"), "answer": "no"}, "the choice 'no' stands twice"),
        ({"choices": ("no", " "), "answer": "no"}, "a choice is empty"),
        ({"choices": ("no",), "answer": "no"}, "at least 2 items"),
        ({"choices": ("no", "yes"), "answer": True}, "valid string"),
    ],
)
def test_what_is_no_choice_is_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Choice.model_validate({"id": "1", "prompt": "?", **row})


def test_a_template_asks_about_a_text_in_its_words() -> None:
    template = Template(ask="{text}\nIs it {choices}? {text}", answers={"b_c": "the second"})
    found = template.choice(Labelled(id="1", group="g", text="one {pair}", label="b_c"), ("a_b", "b_c"))
    assert found == Choice(
        id="1",
        group="g",
        prompt=(Message(role="user", content="one {pair}\nIs it a b, the second? one {pair}"),),
        choices=("a b", "the second"),
        answer="the second",
    )


def test_what_a_template_cannot_ask_is_said() -> None:
    row = Labelled(id="1", text="one", label="a")
    for template, labels, words in (
        (Template(), ("b", "c"), "row '1': its label 'a' is none of b, c"),
        (Template(answers={"a": "b"}), ("a", "b"), "two labels are said in the same words: b, b"),
        (Template(ask="{text} {pair}"), ("a", "b"), r"asks for a second text, \{pair\}, and there is none"),
    ):
        with pytest.raises(DataError, match=words):
            template.choice(row, labels)
    for ask, words in (("{txt}", r"there is no \{txt\}; there are \{text\}"), ("what", r"does not hold \{text\}")):
        with pytest.raises(ValidationError, match=words):
            Template(ask=ask)
