"""A ladder whose generator learns among distractors, to cite and to abstain, with examples near to each question."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.errors import DataError, RecipeError
from burnish.generators.local import Local
from burnish.ladder_recipe import Ladder
from burnish.prepare.beir import write_beir
from burnish.prepare.corpus import Prepared
from burnish.prepare.shots import Shots
from burnish.prompt import PromptFormat, citations
from burnish.recipe import checked
from burnish.records import Chunk, Completion, Message, Question, read_jsonl
from burnish.retrievers import Retriever
from burnish.steps.ask import ask
from burnish.steps.ladder import ladder
from burnish.steps.shelf import Shelf

BM25 = Retriever.read({"kind": "bm25", "stop_words": "none"})
WORDS = tiny.WORDS[-20:]
CHUNKS = [Chunk(id=f"c{n}", title=word, text=f"{word} cat {WORDS[n - 1]}") for n, word in enumerate(WORDS)]
QUESTIONS = [
    Question(id=f"q{n}", question=f"question {word} cat", answers=(word,), gold=(f"c{n}",))
    for n, word in enumerate(WORDS)
]


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("grounded")
    write_beir(folder / "source", CHUNKS, {"all": QUESTIONS})
    llama = str(tiny.tiny_llama(folder / "llama"))
    writer = {"kind": "local", "model": llama, "max_new_tokens": 3}
    shots = {"count": 1, "like": "bm25"}
    return {
        "name": "grounded",
        "corpus": {"reader": {"kind": "beir", "path": str(folder / "source")}, "dev": 0.2, "test": 0.3},
        "prompt": {"passages": 2, "passage_words": 8, "abstain": "none of it", "cite": True},
        "generator": {
            "model": llama,
            "task": "generate",
            "method": "lora",
            "passages": "bm25",
            "ground": {"gold": 0.6},
            "shots": shots,
            "training": {"epochs": 1, "batch": 8, "evaluations": 1, "precision": "fp32"},
        },
        "answer_questions": 4,
        "rungs": [
            {"name": "words", "retriever": "bm25"},
            {"name": "few-shot", "retriever": "best", "generator": writer, "shots": shots},
            {
                "name": "both",
                "retriever": "best",
                "generator": {**writer, "model": "trained/generator"},
                "shots": shots,
            },
        ],
    }


@pytest.fixture(scope="module")
def climbed(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, ladder(checked(settings, Ladder, where="recipe"), folder, say=quiet, progress=quiet)


def test_prompt_and_training_together_are_a_rung_of_their_own(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    _, found = climbed
    assert [rung["name"] for rung in found["rungs"]] == ["words", "few-shot", "both"]
    assert found["rungs"][-1]["trainable"] > 0


def test_training_rows_cite_or_abstain_and_show_an_example(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    folder, _ = climbed
    rows = read_jsonl(folder / "data" / "generator.train.jsonl", Completion)
    said = [row.completion for row in rows]
    assert {text for text in said if not citations(text)} == {"none of it"}
    assert any(citations(text) for text in said)
    for row in rows:
        assert [message.role for message in row.prompt if isinstance(message, Message)] == [
            *("system", "user", "assistant", "user")
        ]
    dev = read_jsonl(folder / "data" / "generator.dev.jsonl", Completion)
    assert dev


def test_asking_puts_the_question_as_the_last_rung_did(
    climbed: tuple[Path, Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = climbed
    seen: list[Any] = []

    class Hearing:
        def write(self, prompts: Any, *, done: Any) -> list[str]:
            seen.extend(prompts)
            done(len(prompts))
            return ["w1 [2]"]

    monkeypatch.setattr(Local, "load", lambda _: Hearing())
    answer = ask(folder, "which w1 cat", progress=quiet)
    [prompt] = seen
    assert [message.role for message in prompt] == ["system", "user", "assistant", "user"]
    assert [passage["cited"] for passage in answer["passages"]] == [False, True]


def test_asking_tells_the_cited_passages_by_their_numbers(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    folder, _ = climbed
    answer = ask(folder, QUESTIONS[0].question, progress=quiet)
    numbers = citations(answer["text"])
    assert [passage["cited"] for passage in answer["passages"]] == [place in numbers for place in (1, 2)]
    assert answer["abstained"] == (answer["text"] == "none of it")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    data = Prepared(CHUNKS, QUESTIONS[:15], [], QUESTIONS[15:], [], [], [], {})
    return Shelf(data, tmp_path, say=quiet, progress=quiet)


def test_shots_are_training_questions_with_their_own_passages(shelf: Shelf) -> None:
    prompt = PromptFormat(passages=2, cite=True)
    asked = [Question(id="new", question=f"what {WORDS[3]} bird {WORDS[7]} {WORDS[7]}"), QUESTIONS[3]]
    near, own = shelf.shots(Shots(count=2, like=BM25), asked, BM25, prompt)
    assert {question for question, _, _ in near} == {QUESTIONS[3].question, QUESTIONS[7].question}
    assert QUESTIONS[3].question not in {question for question, _, _ in own}
    for question, passages, answer in [*near, *own]:
        source = next(found for found in QUESTIONS if found.question == question)
        place = 1 + [chunk.id for chunk in passages].index(source.gold[0])
        assert answer == f"{source.answers[0]} [{place}]"
    fixed = shelf.shots(Shots(count=2), QUESTIONS[15:], BM25, prompt)
    assert fixed[0] == fixed[-1] != near
    assert shelf.shots(Shots(), asked, BM25, prompt) == [[], []]
    with pytest.raises(DataError, match="15 training questions fit its prompt as examples, and 99 are asked for"):
        shelf.shots(Shots(count=99), QUESTIONS[15:], BM25, prompt)


def test_a_generator_that_is_to_abstain_needs_a_sentence(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"generator\.ground teaches to abstain .* prompt\.abstain is empty"):
        checked({**settings, "prompt": {"passages": 2}}, Ladder, where="recipe")
