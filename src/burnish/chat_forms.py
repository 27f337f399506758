"""Prompts and answers as other libraries write them, under the keys of our own records."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
Turn: TypeAlias = dict[str, Any]

FORMS: Mapping[str, tuple[str, ...]] = {  # a column that tells a form from others → what else the form may have
    "messages": (),  # OpenAI's and TRL's
    "conversations": ("system",),  # ShareGPT's
    "instruction": ("input", "output", "system"),  # Alpaca's
}
KNOWN = (
    "Rows are also read from messages (role, content), from conversations (from, value), or from instruction, input "
    "and output"
)
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
}


def completed(row: Row) -> Row:
    """Return a row of any form as `prompt`, `completion` and `answers_from`; one that has these stays as it is.

    Of a conversation the last answer is the completion, and `answers_from` says that the earlier ones may be trained
    too; so it does of completions of several messages.

    Raises:
        ValueError: the row has two forms, or one of them is broken.
    """
    form = _form(row, ("prompt", "completion"))
    answers = row.get("completion")
    if form == "instruction":
        return {**_rest(row, form), "prompt": _instruction(row), "completion": _text(row, "output")}
    if form:
        turns, start = _conversation(row, form), 0
    elif isinstance(answers, list | tuple):
        prompt = row.get("prompt")
        if not isinstance(prompt, list | tuple):
            raise ValueError("`completion` is a list of messages, so `prompt` must be one too")
        asked, start = _turns(prompt, "prompt"), len(prompt)
        turns = [*asked, *_turns(answers, "completion")]
    else:
        return row
    if not turns or turns[-1]["role"] != "assistant" or start == len(turns):
        raise ValueError(f"the last message of `{form or 'completion'}` must be the assistant's: it is what is learned")
    prompt, told = turns[:-1], turns[-1]["content"]
    earlier = any(turn["role"] == "assistant" for turn in prompt[start:])
    return {**_rest(row, form), "prompt": prompt, "completion": told, **({"answers_from": start} if earlier else {})}


def asked(row: Row) -> Row:
    """Return a row of any form as a `prompt`, and its last answer, where there is one, as one of `answers`.

    Raises:
        ValueError: the row has two forms, or one of them is broken.
    """
    form = _form(row, ("prompt",))
    if not form:
        return row
    known = tuple(row.get("answers") or ())
    if form == "instruction":
        told = (row["output"],) if row.get("output") else ()
        return {**_rest(row, form), "prompt": _instruction(row), "answers": (*told, *known)}
    turns = _conversation(row, form)
    if turns and turns[-1]["role"] == "assistant":
        return {**_rest(row, form), "prompt": turns[:-1], "answers": (turns[-1]["content"], *known)}
    return {**_rest(row, form), "prompt": turns, **({"answers": known} if known else {})}


def _form(row: Row, own: Sequence[str]) -> str:
    """Return the name of the row's form, or nothing where it is our own.

    Raises:
        ValueError: there are two.
    """
    found = [name for name in FORMS if row.get(name) is not None]
    ours = [name for name in own if row.get(name) is not None]
    if len(found) + bool(ours) > 1:
        raise ValueError(f"{' and '.join(f'`{name}`' for name in [*found, *ours])} say the same in two ways; keep one")
    return found[0] if found else ""


def _rest(row: Row, form: str) -> dict[str, Any]:
    gone = {form, *FORMS.get(form, ())}
    return {key: value for key, value in row.items() if key not in gone}


def _conversation(row: Row, form: str) -> list[Turn]:
    """Return a conversation's messages, the system's first where it stands beside them.

    Raises:
        ValueError: they are none, or an answer follows no question.
    """
    turns = _turns(row[form], form)
    if form == "conversations" and row.get("system"):
        turns = [{"role": "system", "content": row["system"]}, *turns]
    for place, turn in enumerate(turns):
        if turn["role"] == "assistant" and (place == 0 or turns[place - 1]["role"] != "user"):
            raise ValueError(f"message {place + 1} of `{form}` is an answer, and no question of the user's precedes it")
    return turns


def _turns(value: Any, name: str) -> list[Turn]:
    """Return messages with our own keys.

    Raises:
        ValueError: one is not a message.
    """
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"`{name}` must be a list of messages")
    return [_turn(turn, f"message {place} of `{name}`") for place, turn in enumerate(value, start=1)]


def _turn(turn: Any, where: str) -> Turn:
    """Return a message as role and content.

    Raises:
        ValueError: it is none, or holds what cannot be rendered.
    """
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} is not an object with role and content")
    said = {key: value for key, value in turn.items() if value is not None}
    who, what = ("from", "value") if "from" in said else ("role", "content")
    if said.keys() != {who, what}:
        more = sorted(set(said) - {who, what})
        lacks = sorted({who, what} - set(said))
        raise ValueError(f"{where} " + (f"lacks {', '.join(lacks)}" if lacks else f"holds {', '.join(more)} too"))
    role = _SPEAKERS.get(str(said[who]).lower())
    if role is None:
        raise ValueError(f"{where} is by {said[who]!r}; there are system, user and assistant (human and gpt)")
    if not isinstance(said[what], str):
        raise ValueError(f"{where}: its {what} is no text")
    if role == "assistant" and not said[what].strip():
        raise ValueError(f"{where} is an empty answer")
    return {"role": role, "content": said[what]}


def _instruction(row: Row) -> list[Turn]:
    """Return an instruction, and under it its input, as the user's message.

    Raises:
        ValueError: the instruction is no text.
    """
    given = row.get("input")
    text = f"{_text(row, 'instruction')}\n\n{given}" if given else _text(row, "instruction")
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, {"role": "user", "content": text}]


def _text(row: Row, key: str) -> str:
    """Return a text of the row.

    Raises:
        ValueError: there is none.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{key}` must be a text that says something")
    return value
