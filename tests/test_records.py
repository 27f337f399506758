import json
from pathlib import Path
from time import perf_counter

import pytest
from pydantic import ValidationError

from burnish.errors import DataError
from burnish.records import (
    SHOWN_FAULTS,
    Chunk,
    Completion,
    Document,
    Extraction,
    Labelled,
    Message,
    Pair,
    Prompt,
    Question,
    Rejected,
    Scored,
    Span,
    check_gold,
    dump_jsonl,
    read_jsonl,
    records_fingerprint,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def message_of(path: Path, content: str | bytes, record=Labelled) -> list[str]:
    """Return the lines of the error that reading this content raises, without the path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_jsonl(path, record)
    return str(caught.value).replace(str(path), "FILE").split("\n")


ROWS = [
    Labelled(id="1", text="no bill", label="billing"),
    Labelled(id="2", text='ünï "quoted" \u2028 and\ttabbed\nlines', label="delivery", group="g"),
]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        [Chunk(id="a", title="t", text="x", source="s", start=3, end=4)],
        [Question(id="q", question="who?", answers=("me", "I"), gold=("a",))],
        [Pair(id="p", query="q", positives=("x",), negatives=("y", "z"))],
        [Completion(id="c", prompt="once", completion=" upon")],
        [Completion(id="c", prompt=(Message(role="user", content="hi"),), completion="ho")],
        [Document(id="d", group="g", text="once upon a time")],
        [Labelled(id="1", text="x", label=("billing", "delivery")), Labelled(id="2", text="y", label=())],
        [Scored(id="s", text="x", score=-1.5), Scored(id="t", text="x", pair="y", score=3)],
        [Extraction(id="e", question="who?", context="it is me", answers=(Span(text="me", start=6),))],
        [Extraction(id="e", question="who?", context="no one")],
        [Rejected(reason="empty", id="7", detail="no words")],
    ],
    ids=lambda rows: type(rows[0]).__name__,
)
def test_rows_that_are_written_are_read_back_as_themselves(rows, path):
    path.write_text(dump_jsonl(rows), encoding="utf-8")
    assert read_jsonl(path, type(rows[0])) == rows
    assert len(path.read_bytes().splitlines()) == len(rows)


def test_a_byte_order_mark_and_windows_line_ends_and_blank_lines_are_read(path):
    lines = dump_jsonl(ROWS).rstrip("\n").split("\n")
    path.write_bytes(b"\xef\xbb\xbf" + ("\r\n" + "\r\n\r\n  \r\n".join(lines)).encode())
    assert read_jsonl(path, Labelled) == ROWS


def test_line_numbers_count_blank_lines(path):
    assert message_of(path, "\n\nnope\n") == ["FILE:3: this row is not JSON: Expecting value at column 1"]


def test_every_faulty_line_is_named_at_once(path):
    good = '{"id": "0", "text": "x", "label": "y"}\n'
    found = message_of(
        path,
        good + '{"id": "1", "text": "x"}\n' + "{'id': 2}\n" + '{"id": "3", "text": 4, "lable": "y"}\n' + good,
    )
    assert found == [
        "FILE:2: label: this key is needed and missing",
        "FILE:3: this row is not JSON: Expecting property name enclosed in double quotes at column 2",
        "FILE:4: text: Input should be a valid string (found 4)",
        "FILE:4: label: this key is needed and missing",
        "FILE:4: lable: there is no such key. Did you mean 'label'?",
        "FILE:5: id '0' already stands in line 1",
    ]


@pytest.mark.parametrize(
    ("start", "text", "hint"),
    [(3, "blue", "; it stands at 7"), (0, "green", ", which does not hold it at all")],
)
def test_an_answer_that_is_not_where_it_is_said_to_be_is_refused(start, text, hint, path):
    row = {"id": "1", "question": "q", "context": "it was blue", "answers": [{"text": text, "start": start}]}
    [found] = message_of(path, json.dumps(row), record=Extraction)
    assert found.startswith(f"FILE:1: the answer {text!r} is not at {start} of the context{hint} (found {{")


def test_answers_in_two_lists_are_read_as_squad_has_them(path):
    row = {"id": "e", "question": "who?", "context": "it is me", "answers": {"text": ["me"], "answer_start": [6]}}
    without = {**row, "id": "f", "answers": {"text": [], "answer_start": []}}
    path.write_text(json.dumps(row) + "\n" + json.dumps(without) + "\n")
    assert [found.answers for found in read_jsonl(path, Extraction)] == [(Span(text="me", start=6),), ()]
    uneven = {**row, "answers": {"text": ["me"], "answer_start": []}}
    [found] = message_of(path, json.dumps(uneven), record=Extraction)
    assert "the answers' `text` and `answer_start` must be lists of the same length" in found


def test_a_label_that_is_neither_a_label_nor_several_is_refused(path):
    found = message_of(path, '{"id": "1", "text": "x", "label": 4}')
    assert found[0] == "FILE:1: label: Input should be a valid string (found 4)"


@pytest.mark.parametrize("score", ["NaN", "Infinity", '"much"'])
def test_a_score_is_a_finite_number(score, path):
    [found] = message_of(path, f'{{"id": "1", "text": "x", "score": {score}}}', record=Scored)
    assert found.startswith("FILE:1: score: Input should be a ")


def test_a_repeated_id_names_both_lines(path):
    row = '{"id": "7", "text": "x", "label": "y"}\n'
    assert message_of(path, row + "\n" + row + row) == [
        "FILE:3: id '7' already stands in line 1",
        "FILE:4: id '7' already stands in line 1",
    ]


def test_a_long_list_of_faults_is_cut_and_counted(path):
    found = message_of(path, "nope\n" * (SHOWN_FAULTS + 5))
    assert len(found) == SHOWN_FAULTS + 1
    assert found[-1] == "… and 5 more"
    assert len(message_of(path, "nope\n" * SHOWN_FAULTS)) == SHOWN_FAULTS


@pytest.mark.parametrize("row", ["3", "null", '"text"', "[1, 2]", "true"])
def test_a_row_that_is_no_object_is_refused(row, path):
    assert message_of(path, row) == [f"FILE:1: keys and values are needed here (found {json.loads(row)!r})"]


@pytest.mark.parametrize("content", ["", "\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(content, path):
    assert message_of(path, content) == ["FILE: the file holds no rows; a Labelled a line is needed"]


def test_a_missing_file_names_the_nearest_beside_it(tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(DataError, match=r"tarin\.jsonl: there is no such file\. Did you mean 'train\.jsonl'\?$"):
        read_jsonl(tmp_path / "tarin.jsonl", Labelled)
    with pytest.raises(DataError, match=r"there is no such file\.$"):
        read_jsonl(tmp_path / "nowhere" / "train.jsonl", Labelled)


def test_a_folder_is_called_a_folder(tmp_path):
    with pytest.raises(DataError, match="this is a folder, and a file is needed"):
        read_jsonl(tmp_path, Labelled)


def test_a_file_that_cannot_be_read_is_an_error_of_the_data(path, monkeypatch):
    path.write_text(dump_jsonl(ROWS))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"rows\.jsonl: this file cannot be read: Permission denied"):
        read_jsonl(path, Labelled)


@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
def test_deep_nesting_is_a_fault_of_its_row(depth, path):
    [found] = message_of(path, '{"id": "1", "label": "y", "text": ' + "[" * depth + "]" * depth + "}\n")
    assert found.startswith("FILE:1: ")
    assert len(found) < 200


def test_a_line_that_is_not_utf8_is_named_wherever_it_stands(path):
    good = "".join(f'{{"id": "{i}", "text": "{"x" * 90}", "label": "y"}}\n' for i in range(300)).encode()
    bad = '{"id": "a", "text": "café", "label": "y"}\n'.encode("latin-1")
    assert message_of(path, good + bad) == [
        "FILE:301: this row is not UTF-8 text (invalid continuation byte at byte 25 of the line)"
    ]
    assert message_of(path, dump_jsonl(ROWS).encode("utf-16"))[0].startswith("FILE:1: this row is not UTF-8 text")


def test_half_a_character_is_a_fault_since_it_could_never_be_written(path):
    assert message_of(path, '{"id": "1", "text": "\\ud83d", "label": "y"}') == [
        "FILE:1: this row holds half of a character ('\\ud83d')"
    ]
    path.write_text('{"id": "1", "text": "\\ud83d\\ude00", "label": "y"}')
    assert read_jsonl(path, Labelled)[0].text == "😀"


def test_a_number_too_long_for_python_is_a_fault_of_its_row(path):
    assert message_of(path, '{"id": "1", "text": ' + "9" * 5000 + ', "label": "y"}') == [
        "FILE:1: this row holds a number that is too long"
    ]


def test_the_faults_of_a_conversation_are_those_of_the_form_it_has(path):
    rows = (
        '{"id": "1", "prompt": [{"role": "usr", "content": "a"}], "completion": "x"}\n'
        '{"id": "2", "prompt": [{"role": "user", "contant": "a"}], "completion": "x"}\n'
    )
    assert message_of(path, rows, Completion) == [
        "FILE:1: prompt.0.role: Input should be 'system', 'user' or 'assistant' (found 'usr')",
        "FILE:2: prompt.0.content: this key is needed and missing",
        "FILE:2: prompt.0.contant: there is no such key. Did you mean 'content'?",
    ]


@pytest.mark.parametrize("roles", [[], ["assistant"], ["user", "assistant"]])
def test_a_conversation_ends_with_the_user(roles):
    with pytest.raises(ValidationError, match="the prompt's last message must be the user's"):
        Completion(id="1", prompt=tuple(Message(role=role, content="x") for role in roles), completion="y")


def test_empty_queries_and_positives_are_refused():
    for record, row in (
        (Pair, {"id": "1", "query": "", "positives": ["x"]}),
        (Pair, {"id": "1", "query": "q", "positives": []}),
        (Question, {"id": "1", "question": ""}),
        (Completion, {"id": "1", "prompt": "p", "completion": ""}),
    ):
        with pytest.raises(ValidationError):
            record.model_validate(row)


def test_gold_that_is_not_in_the_corpus_is_named_with_its_near_miss():
    chunks = [Chunk(id="zipfile.is_zipfile", text="x"), Chunk(id="os.walk", text="y")]
    check_gold([Question(id="1", question="q", gold=("os.walk",)), Question(id="2", question="q")], chunks)
    with pytest.raises(DataError) as caught:
        check_gold([Question(id="3", question="q", gold=("os.walk", "zipfile.is_zip"))], chunks)
    assert str(caught.value) == (
        "question '3': its gold passage 'zipfile.is_zip' is not in the corpus. Did you mean 'zipfile.is_zipfile'?"
    )


def test_questions_on_another_corpus_are_refused_without_a_long_wait():
    chunks = [Chunk(id=f"module{i % 50}.function_{i * 7919 % 99991}", text="x") for i in range(2_000)]
    questions = [Question(id=str(i), question="q", gold=(f"elsewhere{i % 40}.function_{i}",)) for i in range(2_000)]
    start = perf_counter()
    with pytest.raises(DataError, match="… and 1980 more"):
        check_gold(questions, chunks)
    assert perf_counter() - start < 20  # looking for a near miss of each took minutes


def test_the_fingerprint_of_rows_depends_on_their_content_and_order():
    assert records_fingerprint(ROWS) == records_fingerprint([row.model_copy() for row in ROWS])
    assert records_fingerprint(ROWS) != records_fingerprint(ROWS[::-1])
    assert records_fingerprint(ROWS) != records_fingerprint(ROWS[:1])


def test_grades_of_one_are_no_grades_and_are_not_written():
    plain = Question(id="q", question="?", gold=("a", "b"))
    assert Question(id="q", question="?", gold=("a", "b"), grades=(1, 1)) == plain
    assert plain.graded == {"a": 1, "b": 1}
    assert "grades" not in dump_jsonl([plain])
    graded = Question(id="q", question="?", gold=("a", "b"), grades=(1, 3))
    assert graded.graded == {"a": 1, "b": 3}
    assert Question.model_validate_json(dump_jsonl([graded])) == graded


@pytest.mark.parametrize(("grades", "message"), [((2,), "1 grades for 2 gold"), ((2, 0), "greater than or equal to 1")])
def test_grades_are_one_for_each_gold_passage(grades, message):
    with pytest.raises(ValueError, match=message):
        Question(id="q", question="?", gold=("a", "b"), grades=grades)


def test_a_pair_has_the_grade_of_each_positive():
    pair = Pair(id="p", query="?", positives=("a", "b"), negatives=("c",), grades=(2, 1))
    assert pair.graded == {"a": 2, "b": 1}
    with pytest.raises(ValueError, match="3 grades for 2 positives"):
        Pair(id="p", query="?", positives=("a", "b"), grades=(2, 1, 1))


def test_a_teacher_scores_each_passage_of_a_pair_or_none():
    row = {"id": "a", "query": "b", "positives": ["c"], "negatives": ["d", "e"]}
    assert Pair.model_validate({**row, "scores": [3, -1.5, 0]}).scores == (3.0, -1.5, 0.0)
    assert Pair.model_validate(row).scores == ()
    said = "there are 2 scores for 1 positives and 2 negatives; 3 are needed, in this order, or none"
    with pytest.raises(ValidationError, match=said):
        Pair.model_validate({**row, "scores": [3, 1]})
    with pytest.raises(ValidationError, match="finite"):
        Pair.model_validate({**row, "scores": [3, 1, float("nan")]})


def test_a_prompt_asks_for_an_answer():
    asked = Prompt(id="a", prompt=(Message(role="user", content="how many?"),), answers=("two",))
    assert Prompt.model_validate_json(asked.model_dump_json()) == asked
    for prompt in ("", (), (Message(role="assistant", content="two"),)):
        with pytest.raises(ValidationError):
            Prompt(id="a", prompt=prompt)
