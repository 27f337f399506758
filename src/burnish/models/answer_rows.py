"""A question's answer behind the prompt of its passages, as token ids, and where each passage stands in it."""

from collections.abc import Sequence
from typing import Any

from burnish.errors import DataError
from burnish.models.answers_apart import Row
from burnish.models.render import prompt_text, render
from burnish.prompt import PromptFormat
from burnish.records import Chunk, Completion, Message, Question


def messages(form: PromptFormat, row: Question, chunks: Sequence[Chunk]) -> tuple[Message, ...]:
    """Return the chat that serving would write, with all of these passages, however many the format shows."""
    return form.model_copy(update={"passages": len(chunks)}).messages(row.question, chunks)


def answer_rows(
    form: PromptFormat, row: Question, shown: Sequence[Sequence[Chunk]], tokenizer: Any, *, apart: bool
) -> tuple[Row, ...]:
    """Return the question's first answer behind a prompt with each of these lists of passages."""
    answer = next(answer for answer in row.answers if answer.strip())
    told = [Completion(id=row.id, prompt=messages(form, row, chunks), completion=answer) for chunks in shown]
    return tuple((prompt, ids) for prompt, ids in render(told, tokenizer, apart=apart))


def passage_spans(
    form: PromptFormat, row: Question, chunks: Sequence[Chunk], tokenizer: Any, *, apart: bool
) -> tuple[range, ...]:
    """Return the places of each passage's tokens in the prompt that `answer_rows` makes of them.

    Raises:
        DataError: the chat template shows a passage otherwise than it is.
    """
    text = prompt_text(messages(form, row, chunks), tokenizer, apart=apart)
    own = bool(tokenizer.chat_template)  # which brings its special tokens
    offsets = tokenizer(text, add_special_tokens=not own, return_offsets_mapping=True)["offset_mapping"]
    spans, end = [], 0
    for number, chunk in enumerate(chunks, start=1):
        piece = form.piece(chunk)
        numbered = f"[{number}] {piece}"  # a question may read like a passage
        found = text.find(numbered, end)
        if found < 0:
            raise DataError(f"passage {chunk.id!r}: the model's chat template shows it otherwise than it is")
        end = found + len(numbered)
        start = end - len(piece)
        inside = [place for place, (first, last) in enumerate(offsets) if first < end and last > start]
        spans.append(range(inside[0], inside[-1] + 1) if inside else range(0))
    return tuple(spans)
