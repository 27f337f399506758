from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from burnish.models import token_ids
from burnish.models.token_ids import TokenRows, bare_ids, cut_ids, framed_ids
from tiny import tiny_bert

TEXTS = ["cat", "the cat is red and the dog is not", "", "dog " * 40, "fish bird", "cat", "dog " * 6]
SECONDS = ["the dog", "", "yes", "no " * 30, "true", "the dog", "fish " * 9]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path / "bert"))


def in_one_call(tokenizer: Any, *texts: list[str], max_tokens: int) -> tuple[list[list[int]], list[bool]]:
    """Tokenize everything at once, and anew with room for one token more to see what is longer."""
    rows, more = (
        tokenizer(*texts, truncation=True, max_length=most)["input_ids"] for most in (max_tokens, max_tokens + 1)
    )
    return rows, [len(row) > max_tokens for row in more]


@pytest.mark.parametrize("texts_a_call", [1, 2, 1000])
@pytest.mark.parametrize("characters_a_call", [1, 30, 1 << 20])
def test_calls_of_some_texts_give_what_one_call_gives(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, texts_a_call: int, characters_a_call: int
) -> None:
    monkeypatch.setattr(token_ids, "TEXTS_A_CALL", texts_a_call)
    monkeypatch.setattr(token_ids, "CHARACTERS_A_CALL", characters_a_call)
    for most in (4, 8, 100):
        found = TokenRows(cut_ids(TEXTS, tokenizer, max_tokens=most))
        assert ([*found], found.cut) == in_one_call(tokenizer, TEXTS, max_tokens=most)
        pairs = [*cut_ids(TEXTS, tokenizer, seconds=SECONDS, max_tokens=most)]
        both = [pair.ids for pair in pairs], [pair.cut for pair in pairs]
        assert both == in_one_call(tokenizer, TEXTS, SECONDS, max_tokens=most)
    assert list(bare_ids(TEXTS, tokenizer)) == tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert list(framed_ids(TEXTS, tokenizer)) == tokenizer(TEXTS)["input_ids"]


def test_a_call_holds_so_many_texts_and_characters_at_most(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    monkeypatch.setattr(token_ids, "TEXTS_A_CALL", 2)
    monkeypatch.setattr(token_ids, "CHARACTERS_A_CALL", 10)
    given: list[list[str]] = []

    def told(texts: list[str], *rest: object, **settings: object) -> Any:
        given.append(texts)
        return tokenizer(texts, *rest, **settings)

    list(bare_ids(["a cat", "a dog", "a", "a fish " * 9, "a", "a"], told))
    assert given == [["a cat", "a dog"], ["a"], ["a fish " * 9], ["a", "a"]]


def test_rows_are_read_by_place_by_slice_and_in_order(tokenizer: Any) -> None:
    rows = TokenRows(cut_ids(TEXTS, tokenizer, max_tokens=8))
    whole = [*rows]
    assert (len(rows), rows[-1], rows[1:4]) == (len(TEXTS), whole[-1], whole[1:4])
    with pytest.raises(IndexError):
        rows[len(TEXTS)]
    assert [*TokenRows([])] == []


def test_texts_of_any_length_are_tokenized_without_special_tokens(tokenizer: Any) -> None:
    found = list(bare_ids(["the cat " * 100, "", "dog"], tokenizer))
    assert [len(ids) for ids in found] == [200, 0, 1]
