"""Rows made of what a retriever found: gold put in for training alone, real distractors, a reason for each loss."""

from collections import Counter
from collections.abc import Sequence

import pytest

from burnish.prepare import ground
from burnish.prepare.ground import Grounded, Grounding, held_out_rows, training_rows
from burnish.records import Chunk, Question
from burnish.retrievers import Hit

TEXTS = {
    "gold": "the blue whale weighs two hundred tonnes",
    "near": "a heavy animal of the sea",
    "holds": "some say blue whale and are right",
    "far": "the price of bread in winter",
    "other": "left and right of the road",
    "last": "green fish in the river",
}
CHUNKS = {name: Chunk(id=name, text=text) for name, text in TEXTS.items()}
QUESTION = Question(id="q", group="g", question="which is heavy?", answers=("blue whale", "whale"), gold=("gold",))


def hits(*names: str) -> list[Hit]:
    return [Hit(name, 10.0 - place) for place, name in enumerate(names)]


def trained(
    names: Sequence[str], *, question: Question = QUESTION, gold: float = 1.0, passages: int = 3, seed: int = 0
) -> Grounded:
    return training_rows([question], [hits(*names)], CHUNKS, Grounding(gold=gold), passages=passages, seed=seed)


def ids(made: Grounded) -> list[str]:
    [row] = made.rows
    return [passage.id for passage in row.passages]


def test_a_gold_passage_that_was_found_stays_among_those_found() -> None:
    made = trained(["near", "gold", "far", "other"])
    assert {*ids(made)} == {"near", "gold", "far"}
    assert made.rows[0].answerable
    assert made.ways[ground.FOUND] == 1


def test_a_gold_passage_that_was_not_found_takes_the_place_of_the_last() -> None:
    made = trained(["near", "far", "other", "last"])
    assert {*ids(made)} == {"near", "far", "gold"}
    assert made.ways[ground.PUT_IN] == 1


def test_without_gold_nothing_that_may_hold_the_answer_is_shown() -> None:
    made = trained(["near", "gold", "holds", "far", "other"], gold=0.0)
    assert {*ids(made)} == {"near", "far", "other"}
    [row] = made.rows
    assert not row.answerable
    assert (row.answer, row.gold) == ("blue whale", ("gold",))
    assert made.ways[ground.TAKEN_OUT] == 1
    assert made.left_out == {"contains an answer": 1}


def test_raft_answers_from_memory_where_that_is_asked_for() -> None:
    settings = Grounding(gold=0.0, without_gold="answer")
    made = training_rows([QUESTION], [hits("near", "far")], CHUNKS, settings, passages=2, seed=0)
    assert made.rows[0].answerable
    assert made.rows[0].gold_places == ()
    held = held_out_rows([QUESTION], [hits("near", "far")], CHUNKS, settings, passages=2)
    assert held.rows[0].answerable


def test_the_share_of_rows_with_gold_is_the_one_asked_for_whatever_the_order() -> None:
    questions = [QUESTION.model_copy(update={"id": f"q{n}"}) for n in range(400)]
    found = [hits("near", "gold", "far", "other")] * len(questions)
    made = training_rows(questions, found, CHUNKS, Grounding(gold=0.7), passages=3, seed=1)
    assert made.ways[ground.FOUND] + made.ways[ground.TAKEN_OUT] == 400
    assert made.ways[ground.FOUND] / 400 == pytest.approx(0.7, abs=0.07)
    backwards = training_rows(questions[::-1], found, CHUNKS, Grounding(gold=0.7), passages=3, seed=1)
    assert backwards.rows[::-1] == made.rows


def test_the_place_of_the_gold_passage_tells_nothing() -> None:
    questions = [QUESTION.model_copy(update={"id": f"q{n}"}) for n in range(300)]
    for names in (["gold", "near", "far"], ["near", "far", "other"]):
        made = training_rows(questions, [hits(*names)] * 300, CHUNKS, Grounding(gold=1.0), passages=3, seed=0)
        places = Counter(place for row in made.rows for place in row.gold_places)
        assert sorted(places) == [1, 2, 3]
        assert min(places.values()) > 70


def test_ranked_order_is_that_of_the_retriever() -> None:
    settings = Grounding(gold=1.0, order="ranked")
    made = training_rows([QUESTION], [hits("near", "gold", "far")], CHUNKS, settings, passages=3, seed=0)
    assert ids(made) == ["near", "gold", "far"]


def test_held_out_rows_are_what_serving_shows_and_no_gold_is_put_in() -> None:
    missed = held_out_rows([QUESTION], [hits("near", "far", "other", "gold")], CHUNKS, Grounding(), passages=3)
    assert ids(missed) == ["near", "far", "other"]
    assert not missed.rows[0].answerable
    found = held_out_rows([QUESTION], [hits("near", "gold", "holds")], CHUNKS, Grounding(), passages=3)
    assert ids(found) == ["near", "gold", "holds"]
    assert found.rows[0].answerable
    another = held_out_rows([QUESTION], [hits("near", "holds")], CHUNKS, Grounding(), passages=3)
    assert another.rows[0].answerable
    assert (missed.ways[ground.NOT_FOUND], found.ways[ground.FOUND], another.ways[ground.HOLDS]) == (1, 1, 1)


def test_a_question_that_the_source_cannot_answer_is_one_to_abstain_at() -> None:
    question = Question(id="q", question="who?")
    for made in (
        trained(["near", "far"], question=question),
        held_out_rows([question], [hits("near", "far")], CHUNKS, Grounding(), passages=2),
    ):
        assert not made.rows[0].answerable
        assert made.ways[ground.UNANSWERABLE] == 1


@pytest.mark.parametrize(
    ("question", "names", "reason"),
    [
        (Question(id="q", question="?", gold=("gold",)), ["near"], ground.NO_ANSWER),
        (Question(id="q", question="?", answers=("x",)), ["near"], ground.NO_GOLD),
        (Question(id="q", question="?"), [], ground.NO_PASSAGE),
        (QUESTION, ["gold", "holds"], ground.NO_DISTRACTOR),
    ],
)
def test_a_question_without_a_row_is_kept_with_its_reason(question: Question, names: list[str], reason: str) -> None:
    made = trained(names, question=question, gold=0.0)
    assert not made.rows
    assert [(row.id, row.reason) for row in made.rejected] == [("q", reason)]
    assert sum(made.ways.values()) == 0


def test_parts_add_up_to_the_whole() -> None:
    one, other = trained(["near", "gold"]), trained(["near", "holds", "far"], gold=0.0)
    whole = Grounded()
    whole.add(one)
    whole.add(other)
    assert whole.rows == [*one.rows, *other.rows]
    assert +whole.ways == one.ways + other.ways
    assert whole.left_out == one.left_out + other.left_out
