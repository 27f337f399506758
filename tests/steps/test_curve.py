"""A learning curve at tiny size: where more labels help, and where they do not."""

import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DataError, RecipeError, RunError
from burnish.recipe import Recipe, read_recipe
from burnish.records import Completion, Labelled, dump_jsonl, read_jsonl
from burnish.run import Run, read_json
from burnish.steps.curve import curve, nested, read_shares

SHARES = [10.0, 25.0, 50.0, 100.0]


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


def recipe(folder: Path, rows: Mapping[str, list[Labelled]], *, epochs: int, more: str = "") -> Path:
    """Write a model, rows and a recipe."""
    tiny.tiny_bert(folder / "bert")
    for side, found in rows.items():
        (folder / f"{side}.jsonl").write_text(dump_jsonl(found), encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
task: classify
model: {folder / "bert"}
method: {{kind: full, learning_rate: 3.0e-3}}
data: {{{", ".join(f"{side}: {folder / side}.jsonl" for side in rows)}}}
training: {{epochs: {epochs}, batch: 16, precision: fp32, evaluations: 0, dropout: 0.0, checkpoint_every: 0,
  head_learning_rate: 3.0e-3}}
{more}
""",
        encoding="utf-8",
    )
    return path


def labelled(side: str, texts: list[tuple[str, str]]) -> list[Labelled]:
    return [Labelled(id=f"{side}{row}", text=text, label=label) for row, (text, label) in enumerate(texts)]


@pytest.fixture(scope="module")
def steep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the curve of a task that is learnt word by word: a label for each, and most words are rare."""
    folder = tmp_path_factory.mktemp("steep")
    draw = random.Random(1)
    label_of = {word: draw.choice("xy") for word in tiny.WORDS}

    def texts(count: int) -> list[tuple[str, str]]:
        words = draw.choices(tiny.WORDS, weights=[1 / (rank + 3) for rank in range(len(tiny.WORDS))], k=count)
        return [(word, label_of[word]) for word in words]

    rows = {side: labelled(side, texts(count)) for side, count in (("train", 160), ("test", 600))}
    path = recipe(folder, rows, epochs=8)
    found = curve(read_recipe(path, Recipe), folder / "run", shares=SHARES, say=quiet, progress=quiet)
    return folder, found


def test_more_labels_help_where_each_word_must_be_seen(steep: tuple[Path, dict[str, Any]]) -> None:
    folder, found = steep
    values = [point["scores"]["accuracy"]["value"] for point in found["points"]]
    assert values[0] < values[1] < values[2] < values[3] < 0.99
    assert found["difference"]["difference"] == pytest.approx(values[3] - values[2])
    assert found["difference"]["p"] < 0.05
    assert found["answer"] in ("Yes", "Probably")
    assert found["doubling"]["why"] or found["doubling"]["change"] > 0
    assert found["sentence"].startswith(f"{found['answer']}: from 80 to 160 training rows accuracy went from ")
    assert read_json(folder / "run" / "curve.json") == found


def test_every_point_has_its_rows_steps_interval_and_run(steep: tuple[Path, dict[str, Any]]) -> None:
    folder, found = steep
    assert [point["rows"] for point in found["points"]] == [16, 40, 80, 160]
    assert {point["steps"] for point in found["points"]} == {80}
    train = [read_jsonl(folder / "run" / "data" / f"train-{share}.jsonl", Labelled) for share in (10, 25, 50, 100)]
    for less, more in pairwise(train):
        assert {row.id for row in less} < {row.id for row in more}
    for point in found["points"]:
        assert point["scores"]["accuracy"]["n"] == 600
        assert point["scores"]["accuracy"]["low"] <= point["scores"]["accuracy"]["value"]
        run = Run.open(folder / "run" / point["run"])
        assert run.manifest["status"] == "finished"
        assert (run.folder / "evaluation" / "test.predictions.jsonl").is_file()
        assert (run.folder / "model").is_dir() == (point["share"] == 100)


def test_the_picture_shows_each_point_and_where_the_law_leads(steep: tuple[Path, dict[str, Any]]) -> None:
    folder, found = steep
    root = ElementTree.fromstring((folder / "run" / "curve.svg").read_bytes())
    words = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"16", "40", "80", "160", "training rows", "accuracy on 600 test rows", "measured"} <= words
    assert ({"320", "power law", "if the rows were doubled"} <= words) == (not found["doubling"]["why"])


def test_a_second_call_reads_what_is_there_and_prints_table_and_sentence(steep: tuple[Path, dict[str, Any]]) -> None:
    folder, found = steep
    told = CliRunner().invoke(app, ["curve", str(folder / "recipe.yaml"), "--run", str(folder / "run")])
    assert told.exit_code == 0, told.output
    assert "100 %" in told.output
    assert found["sentence"][:40] in told.output
    other = read_recipe(folder / "recipe.yaml", Recipe)
    with pytest.raises(RunError, match="begun with another recipe or other rows"):
        curve(other, folder / "run", shares=[50, 100], say=quiet, progress=quiet)


def test_more_labels_do_not_help_where_a_few_tell_all(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = {
        side: labelled(side, [(f"{pet} {tiny.sentence(draw, 2)}", pet) for pet in ["cat", "dog"] * (count // 2)])
        for side, count in (("train", 80), ("dev", 20), ("test", 60))
    }
    path = recipe(tmp_path, rows, epochs=4)
    settings = read_recipe(path, Recipe, ["training.evaluations=2"])
    stopped = Stop("50 %")
    with pytest.raises(RuntimeError, match="stopped"):
        curve(settings, tmp_path / "run", shares=SHARES, say=quiet, progress=stopped)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "shares").rglob("model.safetensors")}
    assert len(before) == 2
    said: list[str] = []
    found = curve(settings, tmp_path / "run", shares=SHARES, say=said.append, progress=quiet)
    assert "▸ 10 % of the training rows: 8 of 80" in said
    assert found["points"][0]["steps"] == 20
    assert found["answer"] == "No"
    assert "next to nothing" in found["sentence"]
    assert (tmp_path / "run" / "curve.svg").is_file()
    log = Run.open(tmp_path / "run" / "shares" / "10").lines("log.jsonl")
    assert [line["step"] for line in log] == list(range(1, 21))  # trained once


class Stop:
    """Progress that raises in the second step of a share's training."""

    def __init__(self, share: str) -> None:
        self.share = share

    def __call__(self, what: str, done: int, of: int) -> None:
        if what == f"{self.share}: training (classify)" and done == 2:
            raise RuntimeError("stopped")


def test_shares_are_nested_stratified_and_keep_groups_whole() -> None:
    draw = random.Random(2)
    rows = [
        Labelled(id=str(row), group=f"g{row // 4}" if row < 80 else "", text="a", label=draw.choice(["a", "a", "b"]))
        for row in range(240)
    ]
    parts = nested(rows, [5, 20, 60], seed=0)
    assert [len(part) for part in parts] == pytest.approx([12, 48, 144], abs=2)
    whole = Counter(row.label for row in rows)["b"] / 240
    for less, more in zip(parts, [*parts[1:], rows], strict=True):
        kept = {row.id for row in less}
        assert kept < {row.id for row in more}
        groups = {row.group for row in less if row.group}
        assert all(row.id in kept for row in rows if row.group in groups)
        assert Counter(row.label for row in less)["b"] / len(less) == pytest.approx(whole, abs=0.06)
    assert parts == nested(rows, [5, 20, 60], seed=0)
    assert parts != nested(rows, [5, 20, 60], seed=1)
    assert {row.id for row in parts[0]} == {row.id for row in nested(rows[::-1], [5, 20, 60], seed=0)[0]}


def test_rows_without_labels_have_shares_too() -> None:
    rows = [Completion(id=str(row), prompt="a", completion="b") for row in range(40)]
    assert [len(part) for part in nested(rows, SHARES, seed=0)] == [4, 10, 20, 40]
    with pytest.raises(DataError, match=r"2 group\(s\) cannot be split into 4 sides \(10 %, 25 %, 50 %, 100 %\)"):
        nested(rows[:2], SHARES, seed=0)


def test_a_curve_needs_test_rows_and_rising_shares(steep: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = steep
    settings = read_recipe(folder / "recipe.yaml", Recipe)
    for shares in ([100.0], [50.0, 25.0], [0.0, 50.0], [50.0, 101.0]):
        with pytest.raises(RecipeError, match="each larger than the one before"):
            curve(settings, tmp_path, shares=shares, say=quiet, progress=quiet)
    bare = read_recipe(folder / "recipe.yaml", Recipe, ["data.test=null"])
    with pytest.raises(RecipeError, match=r"data\.test: a learning curve is scored on rows that are not trained on"):
        curve(bare, tmp_path, shares=SHARES, say=quiet, progress=quiet)
    assert read_shares("10, 25%,100") == [10.0, 25.0, 100.0]
    with pytest.raises(RecipeError, match="shares 'ten': two or more percents"):
        read_shares("ten")
    assert not any(tmp_path.iterdir())
