"""A whole ladder at tiny size: trained, measured, reported, asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import BurnishError, RunError
from burnish.ladder_recipe import Ladder
from burnish.recipe import read_recipe
from burnish.steps.ask import ask
from burnish.steps.ladder import ladder

COLOURS = ["red", "green", "blue", "left", "right", "first", "last", "one", "two", "three"]
ANIMALS = ["cat", "dog", "bird", "fish"]


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ladder over 40 passages, one for each pair of a colour and an animal, grouped by nothing."""
    folder = tmp_path_factory.mktemp("ladder")
    rows = [(colour, animal) for colour in COLOURS for animal in ANIMALS]
    source = folder / "source"
    (source / "qrels").mkdir(parents=True)
    passages = [
        {"_id": f"p{i}", "title": f"{c} {a}", "text": f"open the {c} file of the {a} question"}
        for i, (c, a) in enumerate(rows)
    ]
    queries = [
        {"_id": f"q{i}", "text": f"which {a} is {c} and in what list", "answers": [f"{c} {a}"]}
        for i, (c, a) in enumerate(rows)
    ]
    for name, found in (("corpus", passages), ("queries", queries)):
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\tp{i}\t1" for i in range(len(rows)))]
    (source / "qrels" / "all.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tiny.tiny_bert(folder / "bert")
    tiny.tiny_llama(folder / "llama")
    dense = f"{{kind: dense, model: {folder / 'bert'}}}"
    writer = f"{{kind: local, model: {folder / 'llama'}, max_new_tokens: 4}}"
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
name: tiny
corpus: {{reader: {{kind: beir, path: {source}}}, dev: 0.2, test: 0.3}}
prompt: {{passages: 2, passage_words: 8}}
retriever:
  model: {folder / "bert"}
  task: {{kind: retrieve, query_tokens: 16, passage_tokens: 24}}
  method: {{kind: full, learning_rate: 1.0e-3}}
  negatives: {{retriever: bm25, per_question: 1, depth: 10}}
  training: {{epochs: 1, batch: 8, evaluations: 1, precision: fp32}}
generator:
  model: {folder / "llama"}
  task: generate
  method: lora
  passages: bm25
  training: {{epochs: 1, batch: 8, evaluations: 1, precision: fp32}}
answer_questions: 6
rungs:
  - {{name: words, retriever: bm25}}
  - {{name: vectors, retriever: {dense}}}
  - {{name: tuned, retriever: {{kind: dense, model: trained/retriever}}}}
  - {{name: bare, generator: {writer}}}
  - {{name: shown, retriever: best, generator: {writer}, shots: 1}}
  - {{name: adapted, retriever: best, generator: {{kind: local, model: trained/generator, max_new_tokens: 4}}}}
compare:
  - [tuned, words]
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def climbed(recipe_path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Climb it once."""
    folder = recipe_path.parent / "run"
    return folder, ladder(read_recipe(recipe_path, Ladder), folder, say=quiet, progress=quiet)


def test_every_rung_has_scores_with_intervals_and_its_costs(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    _, found = climbed
    assert [rung["name"] for rung in found["rungs"]] == ["words", "vectors", "tuned", "bare", "shown", "adapted"]
    for rung in found["rungs"]:
        score = rung["scores"][found["main"][rung["kind"]]]
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
        assert score["n"] == (6 if rung["kind"] == "answer" else 12)
    assert [rung["trainable"] > 0 for rung in found["rungs"]] == [False, False, True, False, False, True]


def test_each_rung_is_compared_with_the_one_before_of_its_kind(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    _, found = climbed
    before = {rung["name"]: rung["versus"] and rung["versus"]["name"] for rung in found["rungs"]}
    assert before == {
        "words": None,
        "vectors": "words",
        "tuned": "vectors",
        "bare": None,
        "shown": "bare",
        "adapted": "shown",
    }
    assert {(row["rung"], row["name"]) for row in found["comparisons"]} >= {("tuned", "words"), ("tuned", "vectors")}


def test_answers_fall_into_four_quadrants(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    _, found = climbed
    by_name = {rung["name"]: rung for rung in found["rungs"]}
    assert by_name["bare"]["quadrants"] is None
    table = by_name["adapted"]["quadrants"]
    assert sum(table.values()) == 6
    assert by_name["adapted"]["ceiling"] == (table["retrieved_right"] + table["retrieved_wrong"]) / 6


def test_the_folder_holds_models_report_and_samples(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    folder, _ = climbed
    assert (folder / "trainings" / "retriever" / "model" / "modules.json").is_file()
    assert (folder / "trainings" / "generator" / "model" / "adapter_config.json").is_file()
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    assert len((folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()) == 6


def test_a_second_climb_reuses_what_is_finished(climbed: tuple[Path, Mapping[str, Any]], recipe_path: Path) -> None:
    folder, found = climbed
    before = {path: path.stat().st_mtime_ns for path in folder.glob("rungs/*.json")}
    heard: list[str] = []
    again = ladder(
        read_recipe(recipe_path, Ladder), folder, say=quiet, progress=lambda what, _done, _of: heard.append(what)
    )
    assert {path: path.stat().st_mtime_ns for path in folder.glob("rungs/*.json")} == before
    assert {**again, "peak_mb": 0} == {**found, "peak_mb": 0}
    assert set(heard) == {"writing the report"}


def test_another_recipe_is_refused_in_the_same_folder(
    climbed: tuple[Path, Mapping[str, Any]], recipe_path: Path
) -> None:
    folder, _ = climbed
    other = read_recipe(recipe_path, Ladder, ["answer_questions=5"])
    with pytest.raises(RunError, match="climbed with another recipe"):
        ladder(other, folder, say=quiet, progress=quiet)


def test_a_question_is_answered_with_its_passages(climbed: tuple[Path, Mapping[str, Any]]) -> None:
    folder, _ = climbed
    answer = ask(folder, "which cat is red", progress=quiet)
    assert len(answer["passages"]) == 2
    assert all(passage["text"] for passage in answer["passages"])


def test_the_commands_print_the_table_the_verdict_and_the_answer(
    climbed: tuple[Path, Mapping[str, Any]], recipe_path: Path
) -> None:
    folder, found = climbed
    told = CliRunner().invoke(app, ["ladder", str(recipe_path), "--run", str(folder)])
    assert told.exit_code == 0
    assert "adapted" in told.output
    assert found["verdict"].split(".")[0].split()[0] in told.output
    assert CliRunner().invoke(app, ["ask", str(folder), "which cat is red"]).exit_code == 0
    assert "rungs: 6, of which 3" in CliRunner().invoke(app, ["check", str(recipe_path)]).output


def test_asking_a_folder_without_a_ladder_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BurnishError, match="no finished ladder"):
        ask(tmp_path, "what", progress=quiet)
