import inspect
import re

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from burnish import errors
from burnish.errors import BurnishError, Interrupted, RecipeError, near_miss

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, BurnishError)]


def test_the_modules_docstring_is_the_tree_of_its_errors():
    drawn = re.findall(r"^ +(?:[├└]── )?([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(error.__name__ for error in CLASSES)


def test_every_error_a_user_meets_is_one_kind_below_the_common_one():
    for error in CLASSES:
        assert error is BurnishError or error.__bases__[0] is BurnishError
        assert error.exit_code == 2


@pytest.mark.parametrize("code", [75, 130])
def test_an_interruption_keeps_the_exit_code_of_its_signal(code):
    error = Interrupted("stopped after step 7", code)
    assert (str(error), error.exit_code) == ("stopped after step 7", code)


def test_a_recipes_faults_are_gathered_with_the_others():
    class Two(BaseModel):
        first: str
        second: int

        @field_validator("first")
        @classmethod
        def _refuse(cls, value: str) -> str:
            raise RecipeError(f"no such thing as {value!r}")

    with pytest.raises(ValidationError) as caught:
        Two(first="x", second="y")  # type: ignore[arg-type]
    assert [fault["loc"] for fault in caught.value.errors()] == [("first",), ("second",)]
    assert "no such thing as 'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ("lroa", " Did you mean 'lora'?"),
        ("LORA", " Did you mean 'lora'?"),
        ("bm25", " Did you mean 'BM25'?"),
        ("lora", " Did you mean 'lora'?"),
        ("something else", ""),
        ("", ""),
    ],
)
def test_the_nearest_word_is_suggested_and_nothing_far_off(found, hint):
    assert near_miss(found, ["full", "lora", "BM25"]) == hint


def test_without_allowed_words_nothing_is_suggested():
    assert near_miss("lora", []) == ""
    assert near_miss("lora", (word for word in ["loras"])) == " Did you mean 'loras'?"
