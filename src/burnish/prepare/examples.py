"""Training rows made from questions: pairs for a retriever, prompts with passages for a generator."""

from collections.abc import Mapping, Sequence

from burnish.prompt import PromptFormat
from burnish.records import Chunk, Completion, Pair, Question
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


def completions(
    questions: Sequence[Question], passages: Sequence[Sequence[Chunk]], *, prompt: PromptFormat
) -> list[Completion]:
    """Return one row for each question: the prompt as serving will write it, and the first right answer."""
    return [
        Completion(
            id=question.id,
            group=question.group,
            prompt=prompt.messages(question.question, shown),
            completion=question.answers[0],
        )
        for question, shown in zip(questions, passages, strict=True)
        if question.answers
    ]
