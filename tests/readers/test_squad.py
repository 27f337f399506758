"""Tables in SQuAD's form as passages and questions."""

import json
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.readers.squad import Squad

CONTEXTS = ("The red cat sleeps.", "A green dog runs.")


def row(name: str, context: str, question: str, *answers: str) -> dict[str, object]:
    found = {"text": [*answers], "answer_start": [context.index(answer) for answer in answers]}
    return {"id": name, "title": "animals", "context": context, "question": question, "answers": found}


ROWS = [
    row("1", CONTEXTS[0], "who sleeps?", "red cat", "cat"),
    row("2", CONTEXTS[1], "who runs?", "green dog"),
    row("3", CONTEXTS[0].upper().replace("THE", "The"), "who sings?"),
]


def write(folder: Path, rows: list[dict[str, object]]) -> str:
    path = folder / "squad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_each_context_is_one_passage_and_right_for_its_questions(tmp_path: Path) -> None:
    source = Squad(path=write(tmp_path, ROWS)).load()
    assert [chunk.text for chunk in source.chunks] == list(CONTEXTS)
    first, second, third = source.questions
    assert (first.answers, first.gold) == (("red cat", "cat"), (source.chunks[0].id,))
    assert second.gold == (source.chunks[1].id,)
    assert (third.answers, third.gold) == ((), ())
    assert first.group == third.group != second.group


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    rows = [{"q": "who runs?", "context": CONTEXTS[1], "a": [{"text": "dog", "start": 8}]}]
    source = Squad(path=write(tmp_path, rows), columns={"question": "q", "answers": "a"}).load()
    assert source.questions[0].answers == ("dog",)
    assert source.questions[0].id == "squad:1"


def test_an_answer_that_is_not_in_its_context_is_named(tmp_path: Path) -> None:
    faulty = {**ROWS[0], "answers": {"text": ["blue"], "answer_start": [0]}}
    with pytest.raises(DataError, match=r"squad\.jsonl:1: .*'blue'"):
        Squad(path=write(tmp_path, [faulty, ROWS[1]])).load()
