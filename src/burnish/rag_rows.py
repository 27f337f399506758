"""Rows of retrieval-augmented generation: a question, the passages shown with it, and what is right to say."""

from typing import Any

from pydantic import Field, model_validator

from burnish.records import Chunk, Record


class RagRow(Record):
    """A question, the passages that its prompt shows, in their order, and the answer.

    gold: ids of the passages that are right for the question, shown or not. answerable: whether the passages shown
    hold an answer; if not said, whether a gold one is among them or, where none is known, whether there is an answer.
    """

    question: str = Field(min_length=1)
    passages: tuple[Chunk, ...] = ()
    answer: str = ""
    others: tuple[str, ...] = ()  # further right answers, for metrics
    gold: tuple[str, ...] = ()
    answerable: bool

    @model_validator(mode="before")
    @classmethod
    def _tells_whether_it_has_an_answer(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("answerable") is not None:
            return value
        shown = {_id(passage) for passage in value.get("passages") or ()}
        gold = value.get("gold") or ()
        return {**value, "answerable": not shown.isdisjoint(gold) if gold else bool(value.get("answer"))}

    @model_validator(mode="after")
    def _can_be_answered_and_cited(self) -> "RagRow":
        """Check that there is an answer to teach, and that a passage's id names one passage.

        Raises:
            ValueError: there is none, or two passages share an id.
        """
        if self.answerable and not self.answer.strip():
            raise ValueError("the passages are said to hold an answer, and `answer` is empty")
        ids = [passage.id for passage in self.passages]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two of the passages have the id {twice!r}")
        return self

    @property
    def gold_places(self) -> tuple[int, ...]:
        """The numbers, from 1, of the gold passages among those shown: what an answer may cite."""
        return tuple(place for place, passage in enumerate(self.passages, start=1) if passage.id in self.gold)


def _id(passage: Any) -> Any:
    """Return a passage's id, of a chunk or of what will be one."""
    return passage.id if isinstance(passage, Chunk) else passage.get("id") if isinstance(passage, dict) else None
