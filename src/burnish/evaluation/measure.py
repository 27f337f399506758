"""One rung, measured: a retriever's rankings or a generator's answers, scored question by question."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from burnish.evaluation.score import Scores
from burnish.generators import Writer
from burnish.metrics import Metric
from burnish.prompt import PromptFormat, Shot, without_citations
from burnish.records import Chunk, Question
from burnish.retrievers import Progress, Searcher

DEPTH = 100  # ranks that a retrieval rung is scored on; no metric here looks further


@dataclass(frozen=True, slots=True)
class Measured:
    """What one rung did on the questions: everything that tables, tests and the report are made from."""

    kind: str  # "retrieval" or "answer"
    scores: dict[str, Scores]
    rankings: dict[str, list[str]] = field(default_factory=dict)  # question id → chunk ids, best first
    answers: dict[str, str] = field(default_factory=dict)  # question id → the text as written
    right: dict[str, bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return a form that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Measured":
        """Read what `as_json` returned."""
        scores = {
            label: Scores(s["metric"], tuple(s["ids"]), tuple(s["values"]), tuple(s["groups"]))
            for label, s in value["scores"].items()
        }
        return cls(**{**value, "scores": scores})


def measure_retrieval(searcher: Searcher, questions: Sequence[Question], metrics: Sequence[Metric]) -> Measured:
    """Rank passages for each question and score the rankings against the gold passages and their grades."""
    hits = searcher.search([question.question for question in questions], DEPTH)
    rankings = [[hit.id for hit in row] for row in hits]
    grades = [question.graded for question in questions]
    scores = {metric.label: _scores(metric.label, questions, metric.score(rankings, grades)) for metric in metrics}
    kept = {question.id: row for question, row in zip(questions, rankings, strict=True)}
    return Measured("retrieval", scores, rankings=kept)


def measure_answers(
    writer: Writer,
    questions: Sequence[Question],
    passages: Sequence[Sequence[Chunk]],
    metrics: Sequence[Metric],
    *,
    prompt: PromptFormat,
    shots: Sequence[Sequence[Shot]],
    pick: str | None,
    progress: Progress,
) -> Measured:
    """Have each question answered from its passages and score the answers; what they cite is no part of them.

    shots: the examples in each question's prompt.
    pick: the first match of this pattern in the text counts as the answer; the whole text where nothing matches.
    """
    prompts = [
        prompt.messages(question.question, shown, shots=examples)
        for question, shown, examples in zip(questions, passages, shots, strict=True)
    ]
    texts = writer.write(prompts, done=lambda done: progress("answering", done, len(prompts)))
    answers = [picked(without_citations(text) if prompt.cite else text, pick) for text in texts]
    references = [question.answers for question in questions]
    values = {metric.label: metric.score(answers, references) for metric in metrics}
    first = next(iter(values.values()))
    ids = [question.id for question in questions]
    return Measured(
        "answer",
        {label: _scores(label, questions, found) for label, found in values.items()},
        rankings={i: [chunk.id for chunk in shown[: prompt.passages]] for i, shown in zip(ids, passages, strict=True)},
        answers=dict(zip(ids, texts, strict=True)),
        right={i: value == 1 for i, value in zip(ids, first, strict=True)},
    )


def picked(text: str, pattern: str | None) -> str:
    """Return the first match of the pattern in the text, or the text where there is none."""
    found = re.search(pattern, text) if pattern else None
    return found[0] if found else text


def quadrants(measured: Measured, questions: Sequence[Question]) -> dict[str, int]:
    """Count right and wrong answers where a gold passage was shown, and where none was.

    Wrong with the gold passage shown is the generator's fault; wrong without it, the retriever's.
    """
    counts = dict.fromkeys(("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong"), 0)
    for question in questions:
        shown = "retrieved" if shows_gold(measured, question) else "missed"
        counts[f"{shown}_{'right' if measured.right[question.id] else 'wrong'}"] += 1
    return counts


def shows_gold(measured: Measured, question: Question) -> bool:
    """Tell whether a gold passage is among those shown for the question."""
    return bool(set(question.gold) & set(measured.rankings[question.id]))


def _scores(label: str, questions: Sequence[Question], values: Sequence[float]) -> Scores:
    return Scores(label, tuple(q.id for q in questions), tuple(values), tuple(q.group for q in questions))
