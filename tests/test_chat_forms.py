import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from burnish.errors import DataError
from burnish.records import Completion, Message, Prompt
from burnish.tables import read_rows

SYSTEM, USER, TOLD, MORE = (
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "how many?"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "sure?"},
)
YES = {"role": "assistant", "content": "yes"}
SHARED = [{"from": "human", "value": "how many?"}, {"from": "gpt", "value": "two"}]
SHARED_MORE = [*SHARED, {"from": "human", "value": "sure?"}, {"from": "gpt", "value": "yes"}]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(*turns: dict[str, str]) -> tuple[Message, ...]:
    return tuple(Message.model_validate(turn) for turn in turns)


@pytest.mark.parametrize(
    ("row", "prompt", "completion", "answers_from"),
    [
        ({"messages": [USER, TOLD]}, chat(USER), "two", None),
        ({"messages": [SYSTEM, USER, TOLD, MORE, YES]}, chat(SYSTEM, USER, TOLD, MORE), "yes", 0),
        ({"conversations": SHARED_MORE, "system": "be short"}, chat(SYSTEM, USER, TOLD, MORE), "yes", 0),
        ({"prompt": [USER], "completion": [TOLD]}, chat(USER), "two", None),
        ({"prompt": [USER, TOLD, MORE], "completion": [YES]}, chat(USER, TOLD, MORE), "yes", None),
        ({"prompt": [USER], "completion": [TOLD, MORE, YES]}, chat(USER, TOLD, MORE), "yes", 1),
        ({"prompt": "how many?", "completion": "two"}, "how many?", "two", None),
        ({"instruction": "add", "input": "1 1", "output": "two"}, chat({**USER, "content": "add\n\n1 1"}), "two", None),
        ({"instruction": "how many?", "input": "", "output": "two"}, chat(USER), "two", None),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_every_form_is_read_as_prompt_and_completion(
    row: dict[str, Any], prompt: Any, completion: str, answers_from: int | None, suffix: str, tmp_path: Path
):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet.write_table(Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row if suffix == "jsonl" else [row]) + "\n")
    expected = Completion(id="rows:1", prompt=prompt, completion=completion, answers_from=answers_from)
    assert read_rows(path, Completion) == [expected]


def test_ids_and_groups_are_kept_and_other_columns_left_out(tmp_path: Path):
    path = written(tmp_path / "a.jsonl", [{"id": "x", "group": "g", "source": "web", "messages": [USER, TOLD]}])
    assert read_rows(path, Completion) == [Completion(id="x", group="g", prompt=chat(USER), completion="two")]


def test_a_prompts_last_answer_is_what_it_is_judged_by(tmp_path: Path):
    rows = [{"messages": [USER, TOLD, MORE, YES]}, {"messages": [USER]}]
    found = read_rows(written(tmp_path / "a.jsonl", rows), Prompt)
    assert [(row.prompt, row.answers) for row in found] == [(chat(USER, TOLD, MORE), ("yes",)), (chat(USER), ())]
    told = read_rows(written(tmp_path / "b.jsonl", [{"instruction": "how many?", "output": "two"}]), Prompt)
    assert told == [Prompt(id="b:1", prompt=chat(USER), answers=("two",))]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"messages": [USER]}, "the last message of `messages` must be the assistant's"),
        ({"messages": []}, "`messages` must be a list of messages"),
        ({"messages": [TOLD]}, "message 1 of `messages` is an answer, and no question of the user's precedes it"),
        ({"messages": [USER, TOLD, YES]}, "message 3 of `messages` is an answer, and no question"),
        ({"messages": [USER, {"role": "assistant"}]}, "message 2 of `messages` lacks content"),
        ({"messages": [USER, {**TOLD, "tool_calls": [1]}]}, "message 2 of `messages` holds tool_calls too"),
        (
            {"messages": [{**USER, "role": "tool"}, TOLD]},
            "message 1 of `messages` is by 'tool'; there are system, user",
        ),
        ({"messages": [USER, {**TOLD, "content": " "}]}, "message 2 of `messages` is an empty answer"),
        ({"messages": [USER, TOLD], "conversations": SHARED}, "say the same in two ways"),
        ({"conversations": [*SHARED, "hm"]}, "message 3 of `conversations` is not an object"),
        ({"instruction": "add", "input": "1 1"}, "`output` must be a text that says something"),
        ({"prompt": "a", "completion": [TOLD]}, "`completion` is a list of messages, so `prompt` must be one too"),
    ],
)
@pytest.mark.parametrize("with_id", [False, True])
def test_a_broken_row_is_named_by_its_line(row: dict[str, Any], fault: str, with_id: bool, tmp_path: Path):
    key, *_ = [name for name in ("messages", "conversations", "instruction", "prompt") if name in row]
    good = {
        "messages": {"messages": [USER, TOLD]},
        "conversations": {"conversations": SHARED},
        "instruction": {"instruction": "a", "output": "b"},
        "prompt": {"prompt": [USER], "completion": [TOLD]},
    }[key]
    rows = [{**one, "id": str(number)} if with_id else one for number, one in enumerate((good, row))]
    path = written(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: ") as caught:
        read_rows(path, Completion)
    assert fault in str(caught.value)


def test_forms_are_told_where_no_column_fits(tmp_path: Path):
    path = written(tmp_path / "a.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(DataError, match=r"Rows are also read from messages \(role, content\), from conversations"):
        read_rows(path, Completion)
