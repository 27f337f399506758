"""Prompts and completions as token ids, by the model's own chat template: the same for training and for writing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from burnish.errors import DataError, ModelError
from burnish.models.token_ids import bare_ids, framed_ids
from burnish.records import Completion, Message, raise_faults

Prompt = str | Sequence[Message]


class Turns(NamedTuple):
    """A conversation's token ids, and where the answers stand that are trained; the last one ends it."""

    ids: list[int]
    spans: tuple[range, ...]


def prompt_text(prompt: Prompt, tokenizer: Any, *, apart: bool = False) -> str:
    """Return the text that the model reads before it writes: the rendered chat, up to the assistant's turn.

    apart: the prompt is read by an encoder of its own; without a chat template the messages' texts stand one below the
    other there.

    Raises:
        ModelError: the prompt is a chat and the model has no chat template.
    """
    if isinstance(prompt, str):
        return prompt
    if apart and not tokenizer.chat_template:
        return "\n\n".join(message.content for message in prompt)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{tokenizer.name_or_path}: this model has no chat template; use a chat model, or prompts of plain text"
        )
    text: str = tokenizer.apply_chat_template(
        [message.model_dump() for message in prompt], tokenize=False, add_generation_prompt=True
    )
    return text


def prompt_ids(prompts: Sequence[Prompt], tokenizer: Any, *, apart: bool = False) -> list[list[int]]:
    """Return the token ids of each prompt; a chat template brings its own special tokens.

    apart: for an encoder of its own, where the prompt ends as any text does; else it is gone on with, and has no end.
    """
    found: list[list[int]] = [[] for _ in prompts]
    rendered = [not isinstance(prompt, str) and bool(tokenizer.chat_template) for prompt in prompts]
    for chat in (False, True):
        places = [place for place, is_chat in enumerate(rendered) if is_chat == chat]
        texts = [prompt_text(prompts[place], tokenizer, apart=apart) for place in places]
        ids = bare_ids(texts, tokenizer) if chat else framed_ids(texts, tokenizer)
        for place, row in zip(places, ids, strict=True):
            ended = not apart and not chat and row and row[-1] == tokenizer.eos_token_id
            found[place] = row[:-1] if ended else row
    return found


def render(rows: Sequence[Completion], tokenizer: Any, *, apart: bool = False) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of each row's prompt and completion; the completion ends with the end-of-turn token.

    The prompt's ids are those that the model will meet when it writes, token for token. apart: as in `prompt_ids`.

    Raises:
        DataError: the template renders an answered prompt otherwise than the prompt alone, so that training would
            teach what writing never meets; or a row has a prompt without tokens or an end of turn inside its answer.
        ModelError: the tokenizer has no end token.
    """
    if tokenizer.eos_token is None:
        raise ModelError(f"{tokenizer.name_or_path}: its tokenizer has no end token, which tells where an answer ends")
    raise_faults([fault for row in rows if (fault := _fault(row, tokenizer))])
    prompts = prompt_ids([row.prompt for row in rows], tokenizer, apart=apart)
    empty = [row.id for row, ids in zip(rows, prompts, strict=True) if not ids]
    raise_faults([f"row {name!r}: the prompt has no tokens" for name in empty])
    answers = [row.completion if apart else _answer_text(row, tokenizer) for row in rows]
    eos = tokenizer.eos_token_id
    out = []
    for prompt, completion in zip(prompts, bare_ids(answers, tokenizer), strict=True):
        whole = completion[: completion.index(eos)] if eos in completion else completion
        out.append((prompt, [*whole, eos]))
    return out


def render_turns(rows: Sequence[Completion], tokenizer: Any) -> list[Turns]:
    """Return each row's tokens with every answer that is trained: its completion, and those from `answers_from` on.

    What stands before an answer is, token for token, what the model meets when it writes that answer.

    Raises:
        DataError: as in `render`; or the template shows an answer otherwise once the conversation has gone on.
        ModelError: the tokenizer has no end token.
    """
    asked = [[*_earlier(row), row] for row in rows]
    rendered = iter(render([one for found in asked for one in found], tokenizer))
    turns, bad = [], []
    for row, found in zip(rows, asked, strict=True):
        ids: list[int] = []
        spans: list[range] = []
        for number in range(len(found)):
            prompt, completion = next(rendered)
            if prompt[: len(ids)] != ids:
                bad.append(
                    f"row {row.id!r}: the model's chat template shows answer {number} otherwise once the conversation "
                    "goes on, so that later answers would be trained behind what writing never meets; train the last "
                    "answer alone (task.turns: last)"
                )
            spans.append(range(len(prompt), len(prompt) + len(completion)))
            ids = [*prompt, *completion]
        turns.append(Turns(ids, tuple(spans)))
    raise_faults(list(dict.fromkeys(bad)))
    return turns


def _earlier(row: Completion) -> list[Completion]:
    """Return the earlier answers of a conversation that are trained, each with what it answers."""
    if row.answers_from is None or isinstance(row.prompt, str):
        return []
    return [
        Completion(id=row.id, prompt=row.prompt[:place], completion=message.content)
        for place, message in enumerate(row.prompt)
        if message.role == "assistant" and place >= row.answers_from
    ]


def _fault(row: Completion, tokenizer: Any) -> str:
    """Return what is wrong with a row's answer, or an empty string."""
    if tokenizer.eos_token not in row.completion:
        return ""
    return f"row {row.id!r}: the completion holds {tokenizer.eos_token!r}, which ends the model's turn; take it out"


def _answer_text(row: Completion, tokenizer: Any) -> str:
    """Return what the template writes after the prompt.

    Raises:
        DataError: the answered chat does not begin with the rendered prompt.
    """
    if isinstance(row.prompt, str):
        return row.completion
    before = prompt_text(row.prompt, tokenizer)
    messages = [message.model_dump() for message in row.prompt]
    answered = [*messages, {"role": "assistant", "content": row.completion}]
    whole: str = tokenizer.apply_chat_template(answered, tokenize=False)
    if not whole.startswith(before):
        raise DataError(
            f"row {row.id!r}: the model's chat template renders the prompt one way for training and another for "
            "writing; use a template whose generation prompt begins the assistant's turn"
        )
    return whole[len(before) :]
