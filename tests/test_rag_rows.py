"""Rows of questions with passages, and the one prompt that they become."""

import pytest
from pydantic import ValidationError

from burnish.errors import DataError
from burnish.prompt import PromptFormat, citations, without_citations
from burnish.rag_rows import RagRow
from burnish.records import Chunk

CHUNKS = tuple(Chunk(id=name, title=f"title {name}", text=f"text of {name}") for name in "abc")
ROW = RagRow(id="r", question="which?", passages=CHUNKS, answer="this", others=("that",), gold=("b", "z"))
FORMAT = PromptFormat(abstain="Nothing tells.", cite=True)


def test_a_row_is_answerable_where_a_gold_passage_is_shown() -> None:
    assert ROW.answerable
    assert not RagRow(id="r", question="?", passages=CHUNKS, answer="this", gold=("z",)).answerable
    assert RagRow(id="r", question="?", passages=CHUNKS, answer="this").answerable
    assert not RagRow(id="r", question="?", passages=CHUNKS).answerable
    from_json = RagRow.model_validate_json(ROW.model_dump_json())
    assert from_json == ROW


def test_a_row_that_cannot_be_taught_is_refused() -> None:
    with pytest.raises(ValidationError, match="`answer` is empty"):
        RagRow(id="r", question="?", passages=CHUNKS, gold=("a",))
    with pytest.raises(ValidationError, match="two of the passages have the id 'a'"):
        RagRow(id="r", question="?", passages=(CHUNKS[0], CHUNKS[0]), answer="x")


def test_training_and_serving_write_the_same_prompt() -> None:
    assert FORMAT.completion(ROW).prompt == FORMAT.messages("which?", CHUNKS)


def test_judges_of_answers_get_the_same_prompt_with_passages_and_answers() -> None:
    asked = FORMAT.asked(ROW)
    assert asked.prompt == FORMAT.completion(ROW).prompt
    assert asked.answers == ("this [2]", "that [2]")
    assert asked.passages == ("title a\ntext of a", "title b\ntext of b", "title c\ntext of c")


def test_an_answer_cites_the_gold_passages_shown_by_their_numbers() -> None:
    row = FORMAT.completion(ROW)
    assert row.completion == "this [2]"
    assert row.others == ("that [2]",)
    assert citations(row.completion) == (2,)
    assert without_citations(row.completion) == "this"
    plain = FORMAT.model_copy(update={"cite": False}).completion(ROW)
    assert (plain.completion, plain.others) == ("this", ("that",))


def test_a_row_without_an_answer_teaches_to_abstain() -> None:
    row = FORMAT.completion(ROW.model_copy(update={"answerable": False}))
    assert (row.completion, row.others) == ("Nothing tells.", ())
    assert FORMAT.abstains("nothing tells")
    assert not FORMAT.abstains("Nothing tells. Or so.")
    assert not PromptFormat().abstains("")
    with pytest.raises(DataError, match=r"row 'r': its passages hold no answer, and prompt\.abstain is empty"):
        PromptFormat().completion(ROW.model_copy(update={"answerable": False}))


def test_the_instruction_says_what_is_taught_and_only_that() -> None:
    [system, *_] = FORMAT.messages("which?", CHUNKS)
    assert "Nothing tells." in system.content
    assert "[1]" in system.content
    [plain, *_] = PromptFormat().messages("which?", CHUNKS)
    assert plain.content == PromptFormat().instruction
    [bare, *_] = FORMAT.messages("which?", ())
    assert bare.content == FORMAT.bare_instruction


def test_more_passages_than_the_prompt_shows_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 'r' has 3 passages, and prompt\.passages shows 2"):
        PromptFormat(passages=2).completion(ROW)


def test_citations_are_read_in_any_grouping_each_once() -> None:
    text = "Paris [2] is the capital [1, 2] of France [10]."
    assert citations(text) == (2, 1, 10)
    assert without_citations(text) == "Paris is the capital of France."
    assert citations("none at all [x] []") == ()
