"""Examples in prompts: from the training rows alone, never the row itself, and the nearest last."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from burnish.errors import DataError
from burnish.prepare.shots import Shots, spread, with_shots
from burnish.records import Completion, Message
from burnish.retrievers import Retriever

TEXTS = ["red cat", "green dog", "blue bird", "red fish", "left dog", "one question"]
BM25 = Retriever.read({"kind": "bm25", "stop_words": "none"})


def chat(name: str, text: str, *, group: str = "", system: str = "Be brief.") -> Completion:
    prompt = (Message(role="system", content=system), Message(role="user", content=text))
    return Completion(id=name, group=group, prompt=prompt, completion=f"answer to {text}")


POOL = [chat(f"t{n}", text) for n, text in enumerate(TEXTS)]


def prompts(rows: list[Completion], pool: list[Completion], shots: Shots, folder: Path) -> list[list[str]]:
    found = with_shots(rows, pool, shots, cache=folder, progress=lambda *_: None)
    return [[message.content for message in row.prompt if not isinstance(message, str)] for row in found]


def test_fixed_examples_are_the_same_for_all_and_from_all_over_the_rows(tmp_path: Path) -> None:
    asked = [chat("a", "who"), chat("b", "what")]
    first, second = prompts(asked, POOL, Shots(count=2), tmp_path)
    assert first == ["Be brief.", "red cat", "answer to red cat", "red fish", "answer to red fish", "who"]
    assert second[:-1] == first[:-1]


def test_the_nearest_training_row_stands_last(tmp_path: Path) -> None:
    [found] = prompts([chat("a", "which red fish")], POOL, Shots(count=2, like=BM25), tmp_path)
    assert found == ["Be brief.", "red cat", "answer to red cat", "red fish", "answer to red fish", "which red fish"]


def test_a_row_never_sees_itself_its_group_or_its_own_question(tmp_path: Path) -> None:
    pool = [chat("t0", "red cat", group="g"), chat("t1", "red cats", group="g"), chat("t2", "Red  cat!"), *POOL[1:3]]
    for shots in (Shots(count=2), Shots(count=2, like=BM25)):
        rows = prompts(pool, pool, shots, tmp_path)
        assert {*rows[0][1:-1:2]} == {"green dog", "blue bird"}
        for row in rows:
            assert row[-1] not in row[:-1]


def test_of_a_conversation_the_same_answers_are_learned_with_examples(tmp_path: Path) -> None:
    said = [("user", "hello"), ("assistant", "hi"), ("user", "who")]
    talk = Completion(
        id="a", prompt=tuple(Message(role=role, content=text) for role, text in said), completion="me", answers_from=1
    )
    [row] = with_shots([talk], POOL, Shots(count=2), cache=tmp_path, progress=lambda *_: None)
    assert row.answers_from == 5
    assert [message.content for message in row.prompt[5:] if isinstance(message, Message)] == ["hi", "who"]


def test_plain_prompts_become_one_text(tmp_path: Path) -> None:
    pool = [Completion(id=f"t{n}", prompt=f"Q: {n}\nA: ", completion=str(n)) for n in range(2)]
    asked = Completion(id="a", prompt="Q: 7\nA: ", completion="7", others=("seven",))
    [row] = with_shots([asked], pool, Shots(count=2), cache=tmp_path, progress=lambda *_: None)
    assert row.prompt == "Q: 0\nA: 0\n\nQ: 1\nA: 1\n\nQ: 7\nA: "
    assert (row.id, row.completion, row.others) == ("a", "7", ("seven",))


def test_too_few_rows_and_mixed_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 'a': 6 training rows may be shown with it, and data\.shots asks for 9"):
        prompts([chat("a", "who")], POOL, Shots(count=9), tmp_path)
    plain = Completion(id="p", prompt="who", completion="me")
    with pytest.raises(DataError, match="row 'p': its prompt and its examples' are not all plain or all chats"):
        with_shots([plain], POOL, Shots(count=1), cache=tmp_path, progress=lambda *_: None)[0]


def test_a_number_alone_is_a_count() -> None:
    assert Shots.model_validate(3) == Shots(count=3)
    with pytest.raises(ValidationError):
        Shots.model_validate(True)


@pytest.mark.parametrize(("size", "count"), [(10, 0), (10, 3), (2, 5), (7, 7), (0, 2)])
def test_a_spread_is_from_all_over_and_never_more_than_there_is(size: int, count: int) -> None:
    found = spread(size, count)
    assert len(found) == min(size, count)
    assert found == sorted({*found})
    assert all(0 <= place < size for place in found)
