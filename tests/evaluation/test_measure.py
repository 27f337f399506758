"""Answers of one rung, with metrics that read more of them than their words."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import tiny
from burnish.claims import Case, Claim, Grounded, Judged
from burnish.errors import DataError, RecipeError
from burnish.evaluation.measure import Measured, measure_answers
from burnish.failures import Failure
from burnish.grounding import Check, Grounder
from burnish.ladder_recipe import Ladder
from burnish.metrics import Metric
from burnish.models.encode import Encoder
from burnish.prompt import PromptFormat
from burnish.records import Chunk, Message, Question

CHUNKS = [Chunk(id=name, text=text) for name, text in (("a", "Rome is old."), ("b", "Paris is large."), ("c", "Sea."))]
QUESTIONS = [
    Question(id="q1", question="which is old?", answers=("Rome",), gold=("a",)),
    Question(id="q2", question="which is large?", answers=("Paris",), gold=("b",)),
    Question(id="q3", question="which is small?", answers=("Bern",), gold=("d",)),
]
SAID = ("Rome [1]", "Berlin is large [1]", "I cannot tell.")
METRICS = ("exact_match", "grounded", "citation_recall", "citation_precision", "context_recall", "abstention")
PROMPT = PromptFormat(cite=True, abstain="I cannot tell.", passages=2)


class Writer:
    parameters = 0

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        done(len(prompts))
        return [*SAID]

    def attempt(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str | Failure]:
        return [*self.write(prompts, done=done)]

    def sample(
        self, prompts: Sequence[Sequence[Message]], *, count: int, done: Callable[[int], None]
    ) -> list[list[str]]:
        raise AssertionError


class Fails(Grounder):
    """Judges nothing that speaks of Berlin."""

    def load(self) -> Check:
        def check(cases: Sequence[Case], *, progress: Callable[..., None]) -> list[Judged]:
            progress("judging", 0, 1)
            borne = Grounded((Claim("", 1.0, supported=True),))
            return [Failure("timeout", "late") if "Berlin" in case.answer else borne for case in cases]

        return check


def measured(grounder: Grounder, *metrics: str | Metric) -> Measured:
    return measure_answers(
        Writer(),
        QUESTIONS,
        [CHUNKS] * 3,
        [Metric.read(name) for name in metrics],
        prompt=PROMPT,
        shots=[()] * 3,
        pick=None,
        grounder=grounder,
        progress=lambda *_: None,
    )


def test_every_metric_reads_what_it_asks_for() -> None:
    found = measured(Grounder.read("lexical"), *METRICS)
    assert {label: scores.values for label, scores in found.scores.items()} == {
        "exact match": (1.0, 0.0, 0.0),
        "grounded": (1.0, 0.5, 1.0),  # `large` stands there, `Berlin` does not
        "citation recall": (1.0, 0.0, 1.0),
        "citation precision": (1.0, 0.0, 1.0),
        "context recall": (1.0, 1.0, 0.0),
        "abstention accuracy": (1.0, 1.0, 1.0),
    }
    assert found.failures == {}
    assert Measured.from_json(found.as_json()) == found


def test_what_cannot_be_judged_is_left_out_and_counted_and_the_rest_is_kept() -> None:
    found = measured(Fails(), "exact_match", "grounded", "citation_recall")
    assert found.scores["grounded"].ids == ("q1", "q3")
    assert found.scores["exact match"].ids == ("q1", "q2", "q3")
    assert found.failures == {"grounded": {"timeout": 1}, "citation recall": {"timeout": 1}}
    assert Measured.from_json(found.as_json()) == found


def test_a_kind_that_answers_have_not_is_told() -> None:
    with pytest.raises(DataError, match="answers have no guesses, which a metric reads"):
        measured(Fails(), "exact_match", "calibration")


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["grounded", "exact_match"], "the first of answer_metrics tells right answers from wrong ones; grounded does"),
        (["exact_match", {"kind": "abstention", "of": "recall"}], "abstention recall gives a single answer no score"),
    ],
)
def test_a_ladder_needs_a_metric_to_compare_by(metrics: list[object], said: str, tmp_path: Path) -> None:
    corpus = {"reader": {"kind": "beir", "path": str(tmp_path)}}
    rung = {"name": "bm25", "retriever": "bm25"}
    with pytest.raises(ValueError, match=said) as error:
        Ladder.model_validate({"name": "x", "corpus": corpus, "rungs": [rung], "answer_metrics": metrics})
    assert not isinstance(error.value, RecipeError)  # pydantic gathers it with the other faults


def test_relevance_is_the_cosine_of_question_and_answer(tmp_path: Path) -> None:
    words = [
        word for text in (*SAID, *(question.question for question in QUESTIONS)) for word in re.findall(r"\w+", text)
    ]
    model = tiny.tiny_bert(tmp_path / "bert", words=list(dict.fromkeys(words)))
    metric = Metric.read({"kind": "relevance", "model": str(model)})
    found = measured(Fails(), "exact_match", metric)
    encoder = Encoder.load(str(model), dtype=torch.float32)
    asked, said = (
        encoder.encode(texts, max_tokens=64)[0]
        for texts in ([question.question for question in QUESTIONS], ["Rome", "Berlin is large", "I cannot tell."])
    )
    expected = functional.cosine_similarity(asked, said).clamp(0, 1).tolist()
    assert found.scores[metric.label].values == pytest.approx(expected, abs=1e-5)
