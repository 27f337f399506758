import json
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import DataError
from burnish.preference_rows import Preference, Thumb
from burnish.records import Message
from burnish.tables import read_rows
from real_data import real_data

ASK = {"role": "user", "content": "what is a cat"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("an animal", "a colour"))
TURNS = [ASK, GOOD, {"role": "user", "content": "sure"}]


def read(folder: Path, record: Any, *rows: object) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_rows(path, record)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASK], "chosen": "an animal", "rejected": "a colour"},
        {"prompt": [ASK], "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"prompt": "what is a cat", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "what is a cat", "chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {
            "conversations": [{"from": "human", "value": "what is a cat"}],
            "chosen": {"from": "gpt", "value": "an animal"},
            "rejected": {"from": "gpt", "value": "a colour"},
        },
    ],
    ids=[
        "TRL",
        "texts behind a chat",
        "whole behind the prompt",
        "text before",
        "text before whole",
        "whole",
        "ShareGPT",
    ],
)
def test_preferences_of_every_form_are_the_same_record(row: dict[str, Any], tmp_path: Path):
    [found] = read(tmp_path, Preference, row)
    assert found.prompt == (Message(role="user", content="what is a cat"),)
    assert (found.chosen, found.rejected, found.margin, found.id) == ("an animal", "a colour", None, "rows:1")


def test_texts_alone_are_split_where_their_words_part(tmp_path: Path):
    [found] = read(tmp_path, Preference, {"chosen": "Human: hi\n\nAI: hello", "rejected": "Human: hi\n\nAI: hey"})
    assert (found.prompt, found.chosen, found.rejected) == ("Human: hi\n\nAI: ", "hello", "hey")


def test_a_written_row_is_read_again(tmp_path: Path):
    row = Preference(id="1", prompt=tuple(Message(**turn) for turn in TURNS), chosen="a", rejected="b", margin=0.5)
    assert read(tmp_path, Preference, row.model_dump(mode="json")) == [row]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "chosen": "same", "rejected": "same"}, "chosen and rejected are the same text"),
        ({"chosen": [ASK, GOOD], "rejected": [{**ASK, "content": "x"}, BAD]}, "these differ at message 1"),
        ({"chosen": [ASK], "rejected": [ASK, BAD]}, "chosen: the last message .* must be the assistant's"),
        ({"chosen": "one", "rejected": "two"}, "begin with no words in common; name the prompt"),
        ({"prompt": [ASK, GOOD], "chosen": "a", "rejected": "b"}, "last message must be the user's"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much"}, "margin"),
    ],
)
def test_a_faulty_row_is_named_by_file_and_line(row: dict[str, Any], said: str, tmp_path: Path):
    whole = {"prompt": "q", "chosen": "a", "rejected": "b"}
    keys = {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]} if "prompt" not in row else whole
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{said}"):
        read(tmp_path, Preference, keys, row)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "completion": [GOOD], "label": True},
        {"prompt": [ASK], "completion": "an animal", "label": "good"},
        {"messages": [ASK, GOOD], "label": True},
        {"messages": [ASK, GOOD], "kto_tag": True},
    ],
    ids=["TRL", "our own", "messages", "LLaMA-Factory"],
)
def test_thumbs_of_every_form_are_the_same_record(row: dict[str, Any], tmp_path: Path):
    [found] = read(tmp_path, Thumb, row)
    assert found.prompt == (Message(role="user", content="what is a cat"),)
    assert (found.completion, found.label) == ("an animal", "good")


def test_a_label_that_is_neither_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"rows\.jsonl:1: label: .*'good' or 'bad'.*meh"):
        read(tmp_path, Thumb, {"prompt": "q", "completion": "a", "label": "meh"})


def test_the_demonstration_preferences_are_read_with_their_turns():
    rows = read_rows(real_data("preferences") / "dpo_en_demo.json", Preference)
    assert len(rows) == 299
    assert {row.prompt[-1].role for row in rows if isinstance(row.prompt, tuple)} == {"user"}
    assert sum(isinstance(row.prompt, tuple) and row.prompt[0].role == "system" for row in rows) == 80
    assert max(len(row.prompt) for row in rows) == 13
