"""One rung, measured: a retriever's rankings or a generator's answers, scored question by question."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from burnish.errors import DataError
from burnish.evaluation.grounding import Reply, cited, grounding
from burnish.evaluation.relevance import cosines
from burnish.evaluation.score import Scores
from burnish.failures import Failure, counted, in_words
from burnish.generators import Writer
from burnish.grounding import Check, Grounder
from burnish.metrics import Metric
from burnish.metrics.relevance import Relevance
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
    failures: dict[str, dict[str, int]] = field(default_factory=dict)  # metric's label → kind → answers left out

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
    grounder: Grounder,
    progress: Progress,
) -> Measured:
    """Have each question answered from its passages and score the answers; what they cite is no part of them.

    shots: the examples in each question's prompt.
    pick: the first match of this pattern in the text counts as the answer; the whole text where nothing matches.
    grounder: says what bears the answers, where a metric reads that. What it cannot judge is left out of that metric,
    and counted by kind.

    Raises:
        DataError: of a metric, no answer at all could be judged.
    """
    prompts = [
        prompt.messages(question.question, shown, shots=examples)
        for question, shown, examples in zip(questions, passages, shots, strict=True)
    ]
    texts = writer.write(prompts, done=lambda done: progress("answering", done, len(prompts)))
    answers = [picked(without_citations(text) if prompt.cite else text, pick) for text in texts]
    shown = [row[: prompt.passages] for row in passages]
    seen = _Seen(questions, answers, texts, shown, prompt, grounder, progress)
    scores, failures = {}, {}
    for metric in metrics:
        predictions, references = seen.read(metric)
        kept = [place for place, said in enumerate(predictions) if not isinstance(said, Failure)]
        if len(kept) < len(predictions):
            failures[metric.label] = counted(predictions)
        if not kept:
            raise DataError(
                f"{metric.label}: not one answer could be judged, {in_words(counted(predictions), len(texts))}"
            )
        values = metric.score([predictions[place] for place in kept], [references[place] for place in kept])
        scores[metric.label] = _scores(metric.label, [questions[place] for place in kept], values)
    first = next(iter(scores.values()))
    ids = [question.id for question in questions]
    return Measured(
        "answer",
        scores,
        rankings={i: [chunk.id for chunk in row] for i, row in zip(ids, shown, strict=True)},
        answers=dict(zip(ids, texts, strict=True)),
        right={i: value == 1 for i, value in zip(first.ids, first.values, strict=True)},
        failures=failures,
    )


class _Seen:
    """What metrics of answers read, by its kind; what takes a model is made when a metric first asks for it."""

    def __init__(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        texts: Sequence[str],
        shown: Sequence[Sequence[Chunk]],
        prompt: PromptFormat,
        grounder: Grounder,
        progress: Progress,
    ) -> None:
        self._questions, self._answers, self._shown = questions, answers, shown
        self._grounder, self._progress = grounder, progress
        self._check: Check | None = None
        self._replies = [
            Reply(text, tuple(prompt.piece(chunk) for chunk in row), prompt.abstains(without_citations(text)))
            for text, row in zip(texts, shown, strict=True)
        ]

    def read(self, metric: Metric) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return what a metric reads of each answer, and what it is held against; failures stand in their places.

        Raises:
            DataError: an answer has nothing of the kind.
        """
        kind = metric.reads
        if isinstance(metric, Relevance):
            asked = [question.question for question in self._questions]
            return cosines(asked, [without_citations(reply.text) for reply in self._replies], metric), asked
        if kind == "answers":
            return self._answers, [question.answers for question in self._questions]
        if kind == "shown":
            rankings = [[chunk.id for chunk in row] for row in self._shown]
            return rankings, [question.graded for question in self._questions]
        if kind == "abstentions":
            could = [
                bool({chunk.id for chunk in row} & set(question.gold))
                for question, row in zip(self._questions, self._shown, strict=True)
            ]
            return [reply.abstained for reply in self._replies], could
        if kind == "grounding":
            return grounding(self._replies, self._loaded(), progress=self._progress), self._questions
        if kind == "citations":
            return cited(self._replies, self._loaded(), progress=self._progress), self._questions
        raise DataError(f"answers have no {kind}, which a metric reads; leave that metric out of answer_metrics")

    def _loaded(self) -> Check:
        self._check = self._check or self._grounder.load()
        return self._check


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
