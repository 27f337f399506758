"""Training rows of a retriever, made from questions; `ground` makes those of a generator."""

from collections.abc import Mapping, Sequence

from burnish.records import Chunk, Pair, Question
from burnish.text import TextFormat


def pairs(
    questions: Sequence[Question],
    chunks: Mapping[str, Chunk],
    negatives: Mapping[str, Sequence[str]],
) -> list[Pair]:
    """Return one pair for each question with gold passages; prefixes are the model's, and added by the task."""
    plain = TextFormat()

    def passage(key: str) -> str:
        return plain.passage(chunks[key].title, chunks[key].text)

    return [
        Pair(
            id=question.id,
            group=question.group,
            query=question.question,
            positives=tuple(map(passage, question.gold)),
            grades=question.grades,
            negatives=tuple(map(passage, negatives.get(question.id, ()))),
        )
        for question in questions
        if question.gold
    ]
