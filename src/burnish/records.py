"""The typed rows that burnish reads and writes, one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, FiniteFloat, ValidationError, ValidationInfo, field_validator, model_validator

from burnish.chat_forms import FORMS, asked, completed
from burnish.errors import DataError, near_miss
from burnish.json_lines import json_value, numbered_lines
from burnish.sequences import Joined
from burnish.spec import Spec, faults
from burnish.stored_rows import Ids, RowsOnDisk
from burnish.text import fingerprint_of

R = TypeVar("R", bound=Spec)

Grade = Annotated[int, Field(ge=1)]  # how relevant a passage is; 1 where judgements know right and wrong alone

SHOWN_FAULTS = 20  # a file with more says how many were left out


def _is_none(value: object) -> bool:
    return value is None


def _no_grades(grades: tuple[int, ...]) -> bool:
    """Tell whether the key is left out when a row is written."""
    return not grades


class Record(Spec):
    """One row. Rows with the same non-empty `group` must stay on one side of a split.

    forms: columns that a row may hold instead of the record's fields, each with those that go with it.
    """

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    id: str
    group: str = ""


class Chunk(Record):
    """A citable piece of a document: what a retriever returns and an answer cites."""

    title: str = ""
    text: str
    source: str = ""  # the document it was cut from: a path or an address
    start: int = 0  # offsets of the piece in its document, in characters
    end: int = 0


class Question(Record):
    """A question with its right answers, the ids of the chunks that hold them, and how relevant each of these is.

    grades: one for each of `gold`, 1 or more; none where all are 1, and ones alone are read as none.
    """

    question: str = Field(min_length=1)
    answers: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    grades: tuple[Grade, ...] = Field(default=(), exclude_if=_no_grades)

    @field_validator("grades")
    @classmethod
    def _one_for_each_gold(cls, grades: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        return _normal_grades(grades, others, "gold")

    @property
    def graded(self) -> dict[str, int]:
        """Return each gold chunk's grade by its id, as ranking metrics read it."""
        return dict(zip(self.gold, self.grades or (1,) * len(self.gold), strict=True))


class Document(Record):
    """A source text, whole."""

    text: str = Field(min_length=1)


def _no_pair(pair: str | None) -> bool:
    """Tell whether the key is left out when a row is written."""
    return pair is None


class Labelled(Record):
    """A text and its label, or its labels where a text may have any number of them.

    pair: a second text that is read behind the first, where the label is of the two: a passage, and what it bears.
    """

    text: str
    pair: str | None = Field(default=None, exclude_if=_no_pair)
    label: str | tuple[str, ...]


class Scored(Record):
    """A text and a number to tell of it, or of it and a second text."""

    text: str
    pair: str | None = None
    score: float = Field(allow_inf_nan=False)  # in any unit


class Span(Spec):
    """A piece of a text, and where it starts there, in characters."""

    text: str = Field(min_length=1)
    start: int = Field(ge=0)


class Extraction(Record):
    """A question, a context, and the pieces of it that answer the question; none where it holds no answer.

    Answers are a list of {text, start}, or as SQuAD has them: {text: [...], answer_start: [...]}.
    """

    question: str = Field(min_length=1)
    context: str = Field(min_length=1)
    answers: tuple[Span, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_two_lists(cls, value: Any) -> Any:
        answers = value.get("answers") if isinstance(value, dict) else None
        if not isinstance(answers, dict) or answers.keys() != {"text", "answer_start"}:
            return value
        texts, starts = answers["text"], answers["answer_start"]
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise ValueError("the answers' `text` and `answer_start` must be lists of the same length")
        spans = [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]
        return {**value, "answers": spans}

    @model_validator(mode="after")
    def _stand_in_the_context(self) -> "Extraction":
        for span in self.answers:
            found = self.context[span.start : span.start + len(span.text)]
            if found != span.text:
                place = self.context.find(span.text)
                hint = f"; it stands at {place}" if place >= 0 else ", which does not hold it at all"
                raise ValueError(f"the answer {span.text!r} is not at {span.start} of the context{hint}")
        return self


class Pair(Record):
    """A query with passages that answer it and passages that do not, as formatted texts.

    grades: how relevant each positive is, as a question's. scores: what a teacher gives each positive and then each
    negative, in any unit, higher is better.
    """

    query: str = Field(min_length=1)
    positives: tuple[str, ...] = Field(min_length=1)
    negatives: tuple[str, ...] = ()
    scores: tuple[FiniteFloat, ...] = ()
    grades: tuple[Grade, ...] = Field(default=(), exclude_if=_no_grades)

    @field_validator("grades")
    @classmethod
    def _one_for_each_positive(cls, grades: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        return _normal_grades(grades, others, "positives")

    @property
    def graded(self) -> dict[str, int]:
        """Return each positive's grade by its text, as ranking metrics read it."""
        return dict(zip(self.positives, self.grades or (1,) * len(self.positives), strict=True))

    @model_validator(mode="after")
    def _scores_each_passage(self) -> "Pair":
        passages = len(self.positives) + len(self.negatives)
        if self.scores and len(self.scores) != passages:
            raise ValueError(
                f"there are {len(self.scores)} scores for {len(self.positives)} positives and {len(self.negatives)} "
                f"negatives; {passages} are needed, in this order, or none"
            )
        return self


class Message(Spec):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Completion(Record):
    """A prompt and the text that should follow it; the prompt is plain text or chat messages.

    answers_from: of a conversation, the message from which the prompt's answers may be trained too, counted from 0.
    Rows may also have the forms of `chat_forms`.
    """

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = FORMS

    prompt: str | tuple[Message, ...]
    completion: str = Field(min_length=1)
    others: tuple[str, ...] = ()  # further right answers, for metrics; they are not trained
    answers_from: int | None = Field(default=None, ge=0, exclude_if=_is_none)

    @model_validator(mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        return completed(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> "Completion":
        _check_asks(self.prompt, "the completion is the assistant's")
        roles = [] if isinstance(self.prompt, str) else [message.role for message in self.prompt]
        start = len(roles) if self.answers_from is None else self.answers_from
        for place, role in enumerate(roles[start:], start=start):
            if role == "assistant" and (not place or roles[place - 1] != "user"):
                raise ValueError(f"message {place + 1} of the prompt is an answer to be trained, and answers nothing")
        return self


class Prompt(Record):
    """What a model is to answer, in text or chat messages, and what its answers are judged by.

    answers: right ones, none where a judge or a format tells. passages: what an answer should rest on.
    """

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = FORMS

    prompt: str | tuple[Message, ...] = Field(min_length=1)
    answers: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_any_form(cls, value: Any) -> Any:
        return asked(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> "Prompt":
        _check_asks(self.prompt, "the answer is the assistant's")
        return self


class Rejected(Spec):
    """A row that preparation left out, and why."""

    reason: str
    id: str
    detail: str = ""


def read_jsonl(path: Path, record: type[R]) -> list[R]:
    """Read a JSONL file of records.

    Raises:
        DataError: the file is missing or empty, or rows are not JSON, lack a key, have an unknown one or a wrong
            type, or repeat an id; every faulty line is named.
    """
    rows: list[R] = []
    read_jsonl_into(rows, path, record)
    return rows


def read_jsonl_into(rows: "list[R] | RowsOnDisk[R]", path: Path, record: type[R]) -> None:
    """Read a JSONL file of records into rows that are empty so far.

    Raises:
        DataError: as in `read_jsonl`.
    """
    bad: list[str] = []
    ids = Ids()
    for number, line in numbered_lines(path):
        try:
            row = record.model_validate(json_value(line))
        except ValidationError as error:
            bad += [f"{path}:{number}: {fault}" for fault in faults(error, record)]
        except DataError as error:
            bad.append(f"{path}:{number}: {error}")
        else:
            rows.append(row)
            if isinstance(row, Record):
                ids.add(row.id, number)
    for place, number, first in ids.twice():
        bad.append(f"{path}:{number}: id {_id(rows[place])!r} already stands in line {first}")
    raise_faults(bad)
    if not rows:
        raise DataError(f"{path}: the file holds no rows; a {record.__name__} a line is needed")


def _id(row: Spec) -> str:
    assert isinstance(row, Record)
    return row.id


def dump_jsonl(rows: Iterable[Spec]) -> str:
    """Return the rows as JSONL text."""
    return "".join(json.dumps(row.model_dump(mode="json"), ensure_ascii=False) + "\n" for row in rows)


def raise_faults(bad: Sequence[str]) -> None:
    """Raise one error that lists the faults, if there are any.

    Raises:
        DataError: there is at least one fault.
    """
    if bad:
        rest = len(bad) - SHOWN_FAULTS
        raise DataError("\n".join([*bad[:SHOWN_FAULTS], *([f"… and {rest} more"] if rest > 0 else [])]))


def check_gold(questions: Iterable[Question], chunks: Iterable[Chunk]) -> None:
    """Check that every gold id is a chunk of the corpus.

    Raises:
        DataError: a question's gold chunk is not there; each such question is named.
    """
    ids = {chunk.id for chunk in chunks}
    lost = [(question.id, gold) for question in questions for gold in question.gold if gold not in ids]
    raise_faults(
        [
            f"question {question!r}: its gold passage {gold!r} is not in the corpus."
            + (near_miss(gold, ids) if place < SHOWN_FAULTS else "")  # a look through the whole corpus
            for place, (question, gold) in enumerate(lost)
        ]
    )


def records_fingerprint(rows: Iterable[Spec]) -> str:
    """Return 16 hexadecimal digits that name these rows in this order."""
    return fingerprint_of(_json(rows))


def _json(rows: Iterable[Spec]) -> Iterator[str]:
    if isinstance(rows, Joined):
        for part in rows.parts:
            yield from _json(part)
    elif isinstance(rows, RowsOnDisk):
        yield from rows.json()
    else:
        yield from (row.model_dump_json() for row in rows)


def _check_asks(prompt: str | tuple[Message, ...], behind: str) -> None:
    """Check that a chat ends with what the assistant is to answer.

    Raises:
        ValueError: it does not.
    """
    if isinstance(prompt, tuple) and (not prompt or prompt[-1].role != "user"):
        raise ValueError(f"the prompt's last message must be the user's; {behind}")


def _normal_grades(grades: tuple[int, ...], others: ValidationInfo, field: str) -> tuple[int, ...]:
    """Return the grades of what another field holds; none where all are 1, so that equal judgements are equal rows.

    Raises:
        ValueError: they are not as many.
    """
    graded = others.data.get(field)
    if grades and graded is not None and len(grades) != len(graded):
        raise ValueError(f"there are {len(grades)} grades for {len(graded)} {field}; one for each is needed, or none")
    return () if set(grades) <= {1} else grades
