"""Rows from passages and questions: by one command, counted, without leaks, and served by the same prompt."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DataError, RecipeError, RunError
from burnish.prepare.beir import write_beir
from burnish.prompt import PromptFormat
from burnish.rag_rows import RagRow
from burnish.records import Chunk, Completion, Question, Rejected, read_jsonl
from burnish.run import read_json
from burnish.steps.ask import ask
from burnish.steps.ground import ground
from burnish.steps.ground_recipe import read_ground_recipe

WORDS = tiny.WORDS[-20:]


def quiet(*_: Any) -> None:
    """Show nothing."""


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Return a BEIR folder with splits of its own: twenty passages, a question about each but the last."""
    chunks = [Chunk(id=f"c{n}", text=f"{word} cat {WORDS[n - 1]}") for n, word in enumerate(WORDS)]
    asked = [
        Question(id=f"q{n}", question=f"question {word} cat", answers=(f"answer {word}",), gold=(f"c{n}",))
        for n, word in enumerate(WORDS[:19])
    ]
    asked[0] = asked[0].model_copy(update={"answers": ()})
    write_beir(tmp_path / "beir", chunks, {"train": asked[:13], "dev": asked[13:16], "test": asked[16:]})
    return tmp_path / "beir"


def made(source: Path, out: Path, *overrides: str, say: Callable[[str], None] = quiet) -> dict[str, Any]:
    settings = ["prompt.passages=3", *overrides]
    return ground(read_ground_recipe(source, overrides=settings), out, say=say, progress=quiet)


def test_each_side_becomes_rows_and_every_question_is_accounted_for(beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "rag"
    found = made(beir, out)
    for side, questions in (("train", 13), ("dev", 3), ("test", 3)):
        told = found["sides"][side]
        rows = read_jsonl(out / "rows" / f"{side}.jsonl", RagRow)
        assert told["questions"] == questions == told["rows"] + sum(told["rejected"].values())
        assert sum(told["ways"].values()) == told["rows"] == len(rows)
        prompts = read_jsonl(out / f"{side}.jsonl", Completion)
        prompt = PromptFormat(**read_json(out / "pipeline.json")["prompt"])
        assert prompts == [prompt.completion(row) for row in rows]
    rejected = read_jsonl(out / "rejected.jsonl", Rejected)
    assert [(row.id, row.reason) for row in rejected] == [("q0", "no right answer is known")]


def test_dev_and_test_rows_are_what_the_retriever_found_in_its_order(beir: Path, tmp_path: Path) -> None:
    made(beir, tmp_path / "rag", "rows.gold=1.0")
    pipeline = read_json(tmp_path / "rag" / "pipeline.json")
    for row in read_jsonl(tmp_path / "rag" / "rows" / "test.jsonl", RagRow):
        served = ask(tmp_path / "rag", row.question, progress=quiet)["passages"]
        assert [chunk.id for chunk in row.passages] == [chunk["id"] for chunk in served]
    assert pipeline["generator"] is None


def test_the_same_command_writes_the_same_bytes_and_searches_nothing_twice(beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "rag"
    made(beir, out)
    before = {path: path.read_bytes() for path in out.rglob("*.jsonl")}
    hits = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*.json") if path.name != "written.json"}
    made(beir, out)
    assert {path: path.read_bytes() for path in out.rglob("*.jsonl")} == before
    made(beir, out, "rows.gold=0.0")
    assert {path: path.stat().st_mtime_ns for path in hits} == hits
    assert (out / "train.jsonl").read_bytes() != before[out / "train.jsonl"]
    assert (out / "test.jsonl").read_bytes() == before[out / "test.jsonl"]


def test_rows_that_somebody_changed_are_not_overwritten(beir: Path, tmp_path: Path) -> None:
    out = tmp_path / "rag"
    made(beir, out)
    (out / "train.jsonl").write_text("mine\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"train\.jsonl: what stands here was not written by `burnish ground`"):
        made(beir, out)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "dev.jsonl").write_text("mine\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"dev\.jsonl"):
        made(beir, tmp_path / "new")


def test_a_table_is_split_by_its_contexts(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"{n}{asked}",
            "question": f"{asked} {word} cat",
            "context": f"{word} cat is here",
            "answers": {"text": [word], "answer_start": [0]} if asked == "which" else {"text": [], "answer_start": []},
        }
        for n, word in enumerate(WORDS)
        for asked in ("which", "why")
    ]
    table = tmp_path / "squad.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = made(table, tmp_path / "rag", "dev=0.2", "test=0.2")
    sides = {side: read_jsonl(tmp_path / "rag" / "rows" / f"{side}.jsonl", RagRow) for side in found["sides"]}
    groups = [{row.group for row in of} for of in sides.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert all(not row.answerable for of in sides.values() for row in of if row.question.startswith("why"))
    assert ask(tmp_path / "rag", "which cat", progress=quiet)["passages"]


def test_the_command_shows_the_counts_and_a_model_answers_by_the_same_prompt(
    beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    llama = str(tiny.tiny_llama(tmp_path / "llama"))
    done = CliRunner().invoke(app, ["ground", str(beir), "--set", "prompt.passages=3"], catch_exceptions=False)
    assert done.exit_code == 0
    assert re.search(r"rows +│ +12 +│ +3 +│ +3", done.output) or "12" in done.output
    told = CliRunner().invoke(app, ["ask", "rag", "question w1 cat", "--model", llama], catch_exceptions=False)
    assert told.exit_code == 0
    assert "[1]" in told.output


def test_what_cannot_be_made_is_said(beir: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"prompt\.abstain"):
        made(beir, tmp_path / "rag", "prompt.abstain=")
    with pytest.raises(RecipeError, match="embedded/minilm"):
        read_ground_recipe(beir, retriever="bm52")
    recipe = tmp_path / "ground.yaml"
    recipe.write_text(f"data: {{kind: beir, path: {beir}}}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="a recipe says itself which retriever"):
        read_ground_recipe(recipe, retriever="bm25")
    nothing = [Question(id="q", question="what", gold=("c",))]
    write_beir(tmp_path / "bare", [Chunk(id="c", text="w1")], {"train": nothing})
    with pytest.raises(DataError, match="no row can be made of 1 questions"):
        made(tmp_path / "bare", tmp_path / "none")
