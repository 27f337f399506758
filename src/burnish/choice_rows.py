"""Rows of choices: a prompt, what may follow it, which is right; and templates that make them of labelled texts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from burnish.errors import DataError
from burnish.records import Labelled, Message, Record
from burnish.spec import Spec

_PLACES = ("text", "pair", "choices")
_PLACE = re.compile(r"\{(\w+)\}")


class Choice(Record):
    """A prompt, the choices of what may follow it, and the right one.

    answer: one of the choices, or its number, counted from 0, as tables of other libraries have it.
    """

    prompt: str | tuple[Message, ...] = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2)
    answer: str

    @model_validator(mode="before")
    @classmethod
    def _by_number(cls, value: Any) -> Any:
        if not isinstance(value, dict) or isinstance(value.get("answer"), bool):
            return value
        number, choices = value.get("answer"), value.get("choices")
        if not isinstance(number, int) or not isinstance(choices, list | tuple):
            return value
        if not 0 <= number < len(choices):
            raise ValueError(f"answer {number} is the number of none of the {len(choices)} choices, counted from 0")
        return {**value, "answer": choices[number]}

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Choice":
        """Check that one choice is right and the others are others.

        Raises:
            ValueError: a choice is empty or stands twice, or the answer is none of them.
        """
        twice = next((choice for choice in self.choices if self.choices.count(choice) > 1), None)
        if twice is not None:
            raise ValueError(f"the choice {twice!r} stands twice")
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("a choice is empty")
        if self.answer not in self.choices:
            raise ValueError(f"the answer {self.answer!r} is none of the choices: {', '.join(map(repr, self.choices))}")
        return self


class Template(Spec):
    """How a text with a label is asked: `{text}`, `{pair}` and `{choices}` stand for what they name.

    answers: the words of labels; a label without any is its own name, with spaces for underscores. The prompt is a
    user's message; where the model has no chat template it is plain text.
    """

    ask: str = "{text}"
    answers: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_what_there_is(self) -> "Template":
        """Check the places.

        Raises:
            ValueError: one is unknown, or the text is not asked about.
        """
        unknown = [name for name in _PLACE.findall(self.ask) if name not in _PLACES]
        if unknown:
            raise ValueError(f"there is no {{{unknown[0]}}}; there are {', '.join(f'{{{name}}}' for name in _PLACES)}")
        if "{text}" not in self.ask:
            raise ValueError("the template does not hold {text}")
        return self

    def words(self, label: str) -> str:
        """Return what is said for a label."""
        return self.answers.get(label) or label.replace("_", " ")

    def choice(self, row: Labelled, labels: Sequence[str]) -> Choice:
        """Return the row as a prompt with a choice for each label, in the labels' order.

        Raises:
            DataError: the row has several labels or one that is not listed, or two labels have the same words.
        """
        words = [self.words(label) for label in labels]
        if len({*words}) < len(words):
            raise DataError(
                f"two labels are said in the same words: {', '.join(words)}; give them `answers` of their own"
            )
        if not isinstance(row.label, str) or row.label not in labels:
            raise DataError(f"row {row.id!r}: its label {row.label!r} is none of {', '.join(labels)}")
        if "{pair}" in self.ask and row.pair is None:
            raise DataError(f"row {row.id!r}: the template asks for a second text, {{pair}}, and there is none")
        filled = {"text": row.text, "pair": row.pair or "", "choices": ", ".join(words)}
        asked = _PLACE.sub(lambda found: filled[found[1]], self.ask)
        return Choice(
            id=row.id,
            group=row.group,
            prompt=(Message(role="user", content=asked),),
            choices=tuple(words),
            answer=self.words(row.label),
        )
