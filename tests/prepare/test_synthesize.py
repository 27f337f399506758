"""Synthetic questions: each rule drops what it should, and says so."""

from collections.abc import Mapping, Sequence

import pytest

from burnish.prepare import synthesize as module
from burnish.prepare.synthesize import ANSWER, ASKS, Synthesis, sample, synthesize
from burnish.records import Chunk, Message
from burnish.retrievers import Hit

CHUNKS = [
    Chunk(id="zip", group="archives", title="zipfile", text="Read and write ZIP archives with compressed members."),
    Chunk(id="gzip", group="archives", title="gzip", text="Compress single files in the GNU format."),
    Chunk(id="json", group="text", title="json", text="Encode Python objects as text and decode them again."),
]


class Found:
    """A searcher that always ranks the passages in one order."""

    def __init__(self, *order: str) -> None:
        self.order = order
        self.notes: dict[str, int] = {}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [[Hit(key, 1.0 / place) for place, key in enumerate(self.order, start=1)][:k] for _ in questions]


EVERYTHING = Found("zip", "gzip", "json")


def writer(questions: Mapping[str, str | list[str]], answer: str = "ZIP archives") -> module.Write:
    """Return a writer that asks what the table says about the passage with this title, and answers always alike."""

    def write(prompts: Sequence[Sequence[Message]]) -> list[str]:
        return [said_to([message.content for message in prompt]) for prompt in prompts]

    def said_to(prompt: list[str]) -> str:
        system, user = prompt
        if system == ANSWER:
            return answer
        title = user.removeprefix("Passage:\n").split("\n")[0]
        said = questions.get(title, "")
        return said if isinstance(said, str) else said[ASKS.index(system)]

    return write


def one(text: str, *, answer: str = "ZIP archives", found: Found = EVERYTHING, **settings: object) -> dict[str, int]:
    """Ask about the first passage alone, and return the rules that dropped something."""
    made = synthesize(
        CHUNKS[:1], writer({"zipfile": text}, answer), found, Synthesis.model_validate({"per_passage": 1} | settings)
    )
    dropped = {rule: count for rule, count in made.dropped.items() if count}
    assert made.written == 1 == len(made.questions) + sum(dropped.values())
    return dropped


def test_what_holds_up_is_a_question_with_answer_passage_and_group() -> None:
    asks = {"zipfile": ['1. Question: "How do I read an archive?"\nSure!', "- Which members are compressed?"]}
    made = synthesize(CHUNKS[:1], writer(asks), EVERYTHING, Synthesis())
    assert [(q.id, q.question) for q in made.questions] == [
        ("zip#1", "How do I read an archive?"),
        ("zip#2", "Which members are compressed?"),
    ]
    assert {(q.group, q.answers, q.gold) for q in made.questions} == {("archives", ("ZIP archives",), ("zip",))}
    assert made.written == 2
    assert not any(made.dropped.values())


@pytest.mark.parametrize("text", ["", "Archives?", "word " * 41])
def test_too_short_and_too_long_is_dropped(text: str) -> None:
    assert one(text) == {module.FORM: 1}


@pytest.mark.parametrize(
    "text", ["What does this passage say about ZIP?", "What is the author of it?", "Which function is in the text?"]
)
def test_what_points_at_the_passage_is_dropped(text: str) -> None:
    assert one(text) == {module.POINTS: 1}


def test_what_copies_the_passage_is_dropped_and_a_search_for_its_words_is_not() -> None:
    assert one("Read and write ZIP archives with compressed members?") == {module.COPIED: 1}
    assert one("write ZIP archives") == {}


def test_what_is_asked_twice_is_kept_once() -> None:
    asks = dict.fromkeys(("zipfile", "gzip", "json"), "How do I compress files?")
    made = synthesize(CHUNKS, writer(asks, "compressed members"), EVERYTHING, Synthesis(per_passage=1))
    assert [question.id for question in made.questions] == ["zip#1"]
    assert made.dropped[module.TWICE] == 2


@pytest.mark.parametrize("answer", ["", "None.", "Not mentioned in the passage", "a spreadsheet in Paris", "the"])
def test_what_the_passage_does_not_answer_is_dropped(answer: str) -> None:
    assert one("How do I read an archive?", answer=answer) == {module.UNANSWERED: 1}


def test_an_answer_may_have_some_words_of_its_own() -> None:
    assert one("How do I read an archive?", answer="with compressed ZIP members of Paris") == {}
    assert one("How do I read an archive?", answer="with ZIP in Paris and Rome") == {module.UNANSWERED: 1}


def test_what_does_not_bring_its_passage_back_is_dropped() -> None:
    late = Found("json", "gzip", "zip")
    assert one("How do I read an archive?", found=late, top_k=2) == {module.LOST: 1}
    assert one("How do I read an archive?", found=late, top_k=3) == {}


def test_the_writer_sees_title_and_first_words() -> None:
    seen: list[str] = []

    def write(prompts: Sequence[Sequence[Message]]) -> list[str]:
        seen.extend(prompt[1].content for prompt in prompts)
        return ["" for _ in prompts]

    long = Chunk(id="long", title="T", text=" ".join(map(str, range(20))))
    synthesize([long], write, EVERYTHING, Synthesis(per_passage=1, passage_words=8))
    assert seen == ["Passage:\nT\n0 1 2 3 4 5 6 7"]


def test_a_sample_keeps_the_order_and_depends_on_the_seed() -> None:
    many = [Chunk(id=str(number), text="x") for number in range(50)]
    drawn = sample(many, 10, seed=0)
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=many.index)
    assert drawn == sample(many, 10, seed=0) != sample(many, 10, seed=1)
    assert sample(many, None, seed=0) == sample(many, 99, seed=0) == many
