"""Rows of preferences: a prompt with a better and a worse answer, or with one answer that somebody liked or did not."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.chat_forms import completed
from burnish.records import Message, Record

_SIDES = ("chosen", "rejected")
_LABELS = {"true": "good", "1": "good", "false": "bad", "0": "bad"}


def _is_none(value: object) -> bool:
    return value is None


class Preference(Record):
    """A prompt, the answer that is preferred, and the one that it is preferred to.

    margin: by how much, in the unit of a reward model's scores, where that is known.
    Rows may also be TRL's, whose `chosen` and `rejected` are messages, with the prompt beside or before them, and
    LLaMA-Factory's, with `conversations` before two messages of from and value.
    """

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "conversations": ("chosen", "rejected", "system"),
        "rejected": ("prompt", "chosen"),
        "chosen": ("prompt", "rejected"),
    }

    prompt: str | tuple[Message, ...] = Field(min_length=1)
    chosen: str = Field(min_length=1)
    rejected: str = Field(min_length=1)
    margin: float | None = Field(default=None, allow_inf_nan=False, exclude_if=_is_none)

    @model_validator(mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        return _preferred(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _prefers_one_to_another(self) -> "Preference":
        """Check that there is something to answer, and two answers.

        Raises:
            ValueError: the prompt does not end with the user's message, or the answers are one.
        """
        _check_asks(self.prompt)
        if self.chosen == self.rejected:
            raise ValueError(f"chosen and rejected are the same text ({self.chosen:.60})")
        return self


class Thumb(Record):
    """A prompt with an answer, and whether that is a good or a bad one.

    Rows may also be TRL's, whose label is true or false, and LLaMA-Factory's, with messages and `kto_tag`.
    """

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "messages": ("label", "kto_tag"),
        "conversations": ("label", "kto_tag", "system"),
        "completion": ("prompt", "label"),
    }

    prompt: str | tuple[Message, ...] = Field(min_length=1)
    label: Literal["good", "bad"]
    completion: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        return _judged(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> "Thumb":
        _check_asks(self.prompt)
        return self


def _check_asks(prompt: str | tuple[Message, ...]) -> None:
    """Check that a chat ends with what the assistant is to answer.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(prompt, str) and prompt[-1].role != "user":
        raise ValueError("the prompt's last message must be the user's; the answers are the assistant's")


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of any form with a label in words and an answer as a text.

    Raises:
        ValueError: it has a form that is broken.
    """
    found = dict(row)
    if "kto_tag" in found and "label" not in found:
        found["label"] = found.pop("kto_tag")
    said = str(found.get("label")).lower()
    found |= {"label": _LABELS[said]} if said in _LABELS else {}
    answer = found.get("completion")
    if isinstance(answer, list | tuple | dict):
        found["completion"] = [answer] if isinstance(answer, dict) else answer
        if isinstance(found.get("prompt"), str):
            found["prompt"] = [{"role": "user", "content": found["prompt"]}]
    told = dict(completed(found))
    told.pop("answers_from", None)
    return told


def _preferred(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of any form as a prompt and two texts; one that has these stays as it is.

    Raises:
        ValueError: the two answers go on from different conversations, or nothing is common to them.
    """
    found = dict(row)
    sides = [found.get(side) for side in _SIDES]
    texts = all(isinstance(side, str) for side in sides)
    if None in sides or (texts and "conversations" not in found and found.get("prompt") is not None):
        return found
    rest = {key: value for key, value in found.items() if key not in (*_SIDES, "prompt", "conversations", "system")}
    if texts and "conversations" not in found:
        return {**rest, **_split(*map(str, sides))}
    wholes = [_whole(found, side) for side in _SIDES]
    [prompt, chosen], [other, rejected] = ((whole["prompt"], whole["completion"]) for whole in wholes)
    if prompt != other:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, other, strict=False)))
        raise ValueError(f"chosen and rejected must answer the same conversation; these differ at message {same + 1}")
    return {**rest, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def _whole(row: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    """Return the conversation that one of the answers ends, as `prompt` and `completion`.

    Raises:
        ValueError: it is no conversation, or does not end with an answer.
    """
    answer = row[side]
    if isinstance(answer, str):
        answer = {"role": "assistant", "content": answer}
    turns = [*answer] if isinstance(answer, list | tuple) else [answer]
    before = row.get("conversations", row.get("prompt"))
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    if before is not None and turns[: len(before)] != [*before]:
        turns = [*before, *turns]
    system = row.get("system")
    try:
        return completed({"conversations": turns, **({"system": system} if system else {})})
    except ValueError as error:
        raise ValueError(f"{side}: {error}".replace("`conversations`", "its conversation")) from None


def _split(chosen: str, rejected: str) -> dict[str, str]:
    """Return the words that two texts begin with, as the prompt, and what follows of each.

    Raises:
        ValueError: there are none, or one of the texts is no more than these.
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    shared = chosen[: max(chosen.rfind(space, 0, same) for space in " \n") + 1]  # words are not split
    if not shared.strip():
        raise ValueError("there is no prompt, and chosen and rejected begin with no words in common; name the prompt")
    return {"prompt": shared, "chosen": chosen[len(shared) :], "rejected": rejected[len(shared) :]}
