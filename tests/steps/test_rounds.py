"""Rounds of mining and training at tiny size: what they find, how they go on, what they leave behind."""

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import RecipeError, RunError
from burnish.prepare.beir import write_beir
from burnish.recipe import Recipe
from burnish.records import Chunk, Pair, Question, read_jsonl
from burnish.run import read_json, write_json
from burnish.steps import rounds as steps
from burnish.steps.mine_recipe import Mine, read_mine
from burnish.steps.rounds import rounds

COUNT = 2


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe of rounds: questions share two words with their passage, which a random encoder hardly sees."""
    folder = tmp_path_factory.mktemp("rounds")
    draw = random.Random(0)
    words = [f"w{n}" for n in range(20)]
    pairs = [(one, other) for one in words for other in words if one < other][:60]
    chunks = [Chunk(id=f"c{n}", text=f"{a} {tiny.sentence(draw, 3)} {b}") for n, (a, b) in enumerate(pairs)]
    asked = [Question(id=f"q{n}", question=f"question {a} {b}", gold=(f"c{n}",)) for n, (a, b) in enumerate(pairs)]
    write_beir(folder / "data", chunks, {"train": asked[:44], "dev": asked[44:]})
    tiny.tiny_bert(folder / "bert")
    path = folder / "rounds.yaml"
    path.write_text(
        f"""
data: {{kind: beir, path: {folder / "data"}, split: train}}
retrievers: [bm25, {{kind: dense, model: trained/model}}]
rules: {{per_question: 2, depth: 20, copies: null}}
rounds:
  count: {COUNT}
  model: {folder / "bert"}
  dev: {{kind: beir, path: {folder / "data"}, split: dev}}
  training: {{epochs: 3, batch: 22, learning_rate: 3.0e-3, precision: fp32, evaluations: 1, dropout: 0.0}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def done(path: Path) -> tuple[Path, dict[str, Any]]:
    """Run the rounds once, from beginning to end."""
    folder = path.parent / "run"
    return folder, rounds(read_mine(path), folder, say=quiet, progress=quiet)


def test_each_round_is_mined_with_the_model_before_it_and_the_best_is_kept(done: tuple[Path, dict[str, Any]]) -> None:
    folder, found = done
    base, *trained = found["rounds"]
    assert [told["round"] for told in found["rounds"]] == [0, 1, 2]
    assert found["best"] > 0
    assert found["rounds"][found["best"]]["dev"]["value"] > base["dev"]["value"] + 0.1
    assert trained[1]["start"] == trained[0]["model"]  # ANCE: the next round goes on from the one before
    mined = [read_json(folder / "rounds" / str(number) / "rows.mined.json") for number in (1, 2)]
    assert [told["settings"]["retrievers"][1]["model"] for told in mined] == [base["model"], trained[0]["model"]]
    assert mined[0]["rows_sha256"] != mined[1]["rows_sha256"]
    assert [told["counts"] for told in mined] == [told["counts"] for told in trained]
    assert all(told["gain"]["n"] == 16 for told in trained)
    assert f"Round {found['best']} is the best: dev nDCG@10" in found["sentence"]
    assert read_json(folder / "rounds.json") == found
    assert (folder / "model" / "modules.json").is_file()
    kept = sorted(str(place.relative_to(folder)) for place in folder.rglob("*.safetensors"))
    assert [name for name in kept if "model" in name] == ["model/model.safetensors"]
    assert not [name for name in kept if "index" in name]  # nor vectors of models that search no more


def test_dev_questions_are_never_trained_on(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    rows = read_jsonl(folder / "rounds" / "1" / "rows.jsonl", Pair)
    dev = read_jsonl(folder / "dev.jsonl", Pair)
    assert (len(rows), len(dev)) == (44, 16)
    assert not {row.query for row in rows} & {row.query for row in dev}


def test_what_is_finished_is_read_back_and_nothing_is_trained_again(
    path: Path, done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = done
    for name in ("train_apart", "resume_apart", "mine_rows", "measure_retrieval"):
        monkeypatch.delattr(steps, name)
    assert rounds(read_mine(path), folder, say=quiet, progress=quiet) == found
    with pytest.raises(RunError, match="begun with another recipe or other rows"):
        rounds(read_mine(path, overrides=["rounds.count=3"]), folder, say=quiet, progress=quiet)


@pytest.mark.parametrize("at", [1, 2])
def test_rounds_that_were_stopped_go_on_where_they_stood(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    trained: list[str] = []

    # Writes another random model, so that no test waits for a training.
    def train(settings: Recipe, run: Path, **_: Any) -> float:
        trained.append(run.parent.name)
        if len(trained) == at:
            raise KeyboardInterrupt
        tiny.tiny_bert(run / "model", seed=int(run.parent.name))
        write_json(run / "manifest.json", {"status": "finished"})
        return 0.0

    monkeypatch.setattr(steps, "train_apart", train)
    recipe, folder = read_mine(path), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        rounds(recipe, folder, say=quiet, progress=quiet)
    assert not (folder / "model").exists()
    again = rounds(recipe, folder, say=quiet, progress=quiet)
    assert trained == [*map(str, range(1, at + 1)), *map(str, range(at, COUNT + 1))]
    trained[:] = ["never stopped"] * COUNT
    whole = rounds(recipe, tmp_path / "whole", say=quiet, progress=quiet)
    assert [told["dev"] for told in again["rounds"]] == [told["dev"] for told in whole["rounds"]]
    assert again["sentence"] == whole["sentence"]
    for number in ("1", "2"):
        rows = [place / "rounds" / number / "rows.jsonl" for place in (folder, tmp_path / "whole")]
        assert rows[0].read_bytes() == rows[1].read_bytes()


def test_without_dev_questions_a_share_is_held_out_that_holds_together(path: Path) -> None:
    recipe = read_mine(path, overrides=["rounds.dev=null", "rounds.dev_share=0.25"])
    chunks = {f"c{n}": Chunk(id=f"c{n}", text=f"text {n}") for n in range(40)}
    asked = [Question(id=f"q{n}", question=f"question {n // 2}", gold=(f"c{n % 20}",)) for n in range(40)]
    assert recipe.rounds is not None
    train, dev = steps._sides(recipe, recipe.rounds, steps.Ground(chunks, asked, {}))
    assert sorted([*train, *dev], key=lambda question: int(question.id[1:])) == asked
    assert 0 < len(dev) < len(train)
    assert not {key for q in train for key in q.gold} & {key for q in dev for key in q.gold}
    assert not {q.question for q in train} & {q.question for q in dev}


def test_the_base_that_no_round_beats_is_said(path: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = done
    kept = [read_json(folder / "rounds" / str(number) / "round.json") for number in range(COUNT + 1)]
    assert "No round beat the base: dev nDCG@10" in steps._sentence("nDCG@10", 0, kept, {})


def test_a_recipe_of_rounds_must_mine_with_what_it_trains(path: Path) -> None:
    with pytest.raises(RecipeError, match="none of them is the model that the rounds train"):
        read_mine(path, overrides=["retrievers=[bm25]"])
    settings = read_mine(path).model_dump(mode="json", exclude={"rounds"})
    with pytest.raises(ValueError, match="a retriever uses trained/model"):
        Mine.model_validate(settings)


def test_the_command_shows_the_rounds(path: Path, done: tuple[Path, dict[str, Any]]) -> None:
    folder, found = done
    shown = CliRunner().invoke(app, ["mine", str(path), "--run", str(folder)], catch_exceptions=False)
    assert "rounds, by dev nDCG@10" in shown.output
    assert f"*{found['best']}" in shown.output
    assert "Round" in shown.output
