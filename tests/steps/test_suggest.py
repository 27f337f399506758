"""A table in, a recipe that passes `burnish check` out, for every record, at tiny size."""

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DataError, ModelError, RecipeError
from burnish.models import embedded
from burnish.recipe import Recipe, read_recipe
from burnish.steps.check import check
from burnish.steps.suggest import suggest
from burnish.steps.train import train
from real_data import real_data


def silent(*_: object) -> None:
    """Show nothing."""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no embedded model at hand, and a cache of one's own."""
    monkeypatch.setattr(embedded, "MODELS", {})
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.tiny_bert(folder / "bert")
    tiny.tiny_bert(folder / "blind", words=["none"])
    tiny.tiny_llama(folder / "llama")
    return folder


def texts(count: int, *, longest: int = 8) -> list[str]:
    draw = random.Random(0)
    return [f"{tiny.sentence(draw, 3 + n % longest)} {tiny.WORDS[n % len(tiny.WORDS)]}" for n in range(count)]


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def chat(*said: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]


def suggested(data: str, folder: Path, *models: Path, **columns: str) -> tuple[Path, list[str]]:
    said: list[str] = []
    out = suggest(
        data,
        models=list(map(str, models)),
        columns=columns,
        out=folder / "new" / "r.yaml",
        say=said.append,
        progress=silent,
    )
    return out, said


SETS: list[list[str]] = [["a"], ["a", "b"], [], ["b"]]
PETS = [{"body": f"{text} {pet}", "kind": pet} for text in texts(60) for pet in ("cat", "dog")]


def test_labels_give_a_classifier_that_can_be_trained(models: Path, tmp_path: Path):
    data = table(tmp_path / "pets.jsonl", PETS)
    out, said = suggested(data, tmp_path, models / "blind", models / "bert", text="body", label="kind")
    recipe = read_recipe(out, Recipe)
    assert recipe.model == str(models / "bert")
    assert recipe.method.kind == "lora"
    assert recipe.data.train == (tmp_path / "new" / "r-data" / "train.jsonl").as_posix()
    assert "120 rows of Labelled: text from body, label from kind" in said
    probes = [line for line in said if "of a linear probe" in line]
    assert [str(models / "bert") in line for line in probes] == [True, False]
    comments = [line for line in out.read_text().splitlines() if line.startswith("# ")]
    assert {f"# {line}" for line in said} <= set(comments)
    assert check(out, [])[0] == "rows: 72 to train on, 24 to score while training, 24 to test on"
    run = train(read_recipe(out, Recipe, ["training.epochs=1"]), tmp_path / "run", say=silent, progress=silent)
    assert (run.folder / "evaluation" / "test.json").is_file()


@pytest.mark.parametrize(
    ("kind", "rows", "model"),
    [
        ("classify", [{"text": text, "label": SETS[n % 4]} for n, text in enumerate(texts(50))], "bert"),
        ("regress", [{"text": text, "score": len(text) / 7} for text in texts(50)], "bert"),
        ("regress", [{"text": text, "pair": text[::-1], "score": n / 3} for n, text in enumerate(texts(50))], "bert"),
        ("retrieve", [{"query": text[:9] + str(n), "positive": text} for n, text in enumerate(texts(50))], "bert"),
        ("generate", [{"prompt": text, "completion": text[:5]} for text in texts(50)], "llama"),
        ("generate", [{"messages": chat(text, text[:5]), "source": "x"} for text in texts(50)], "llama"),
        ("prefer", [{"prompt": text, "chosen": "cat", "rejected": "dog", "why": 1} for text in texts(50)], "llama"),
        ("prefer", [{"chosen": chat(text, "cat"), "rejected": chat(text, "dog")} for text in texts(50)], "llama"),
        ("pretrain", [{"text": text * 9} for text in texts(50)], "llama"),
        (
            "extract",
            [
                {"question": f"what {n}", "context": text, "answers": [{"text": text[:3], "start": 0}]}
                for n, text in enumerate(texts(50))
            ],
            "bert",
        ),
    ],
)  # fmt: skip
def test_every_record_gives_a_recipe_that_passes_check(
    kind: str, rows: list[dict[str, Any]], model: str, models: Path, tmp_path: Path
):
    out, said = suggested(table(tmp_path / "t.jsonl", rows), tmp_path, models / model)
    assert read_recipe(out, Recipe).task.kind == kind
    assert any(line.startswith("time:") for line in check(out, []))
    assert any(line.startswith("split: 30 train, 10 dev, 10 test") for line in said)


def test_what_stands_beside_an_instruction_is_read(models: Path, tmp_path: Path):
    rows = [{"instruction": "say it again", "input": text, "output": text} for text in texts(50)]
    out, said = suggested(table(tmp_path / "t.jsonl", rows), tmp_path, models / "llama")
    assert said[0] == "50 rows of Completion: as they stand"
    assert not any("not read" in line for line in said)
    first = json.loads(Path(read_recipe(out, Recipe).data.train).read_text().splitlines()[0])  # type: ignore[arg-type]
    assert any(text in json.dumps(first["prompt"]) for text in texts(50))


def test_real_preferences_give_a_recipe_at_a_tenth_of_the_rate(models: Path, tmp_path: Path):
    out, said = suggested(str(real_data("preferences") / "dpo_en_demo.json"), tmp_path, models / "llama")
    recipe = read_recipe(out, Recipe)
    assert (recipe.task.kind, recipe.method.kind, recipe.method.learning_rate) == ("prefer", "lora", 1e-4)
    assert said[0].endswith("rows of Preference: as they stand")
    assert recipe.training.epochs <= 3


def test_among_equals_the_smallest_model_is_taken(models: Path, tmp_path: Path):
    rows = [{"text": text, "label": "ab"[n % 7 > 2]} for n, text in enumerate(texts(60))]  # nothing to be learned
    out, said = suggested(table(tmp_path / "t.jsonl", rows), tmp_path, models / "bert", models / "blind")
    assert read_recipe(out, Recipe).model == str(models / "blind")
    assert "# the smallest within the interval of the best" in out.read_text()
    assert any(line.startswith("whoever always says the commonest label: accuracy") for line in said)


def test_duplicates_and_contradictions_are_told(models: Path, tmp_path: Path):
    rows = [{"text": row["body"], "label": row["kind"]} for row in PETS]
    rows += [{"text": rows[0]["text"], "label": "dog"}, {"text": rows[1]["text"].upper(), "label": "dog"}]
    _, said = suggested(table(tmp_path / "t.jsonl", rows), tmp_path, models / "bert")
    assert any(line.startswith("2 rows have the text of an earlier one, 1 of them say something else") for line in said)
    assert any(line.startswith("the same text has different labels") for line in said)


def test_text_from_data_stays_in_its_comment(models: Path, tmp_path: Path):
    rows = [{"text": row["body"], "label": f"{row['kind']}\nseed: 7"} for row in PETS]
    out, _ = suggested(table(tmp_path / "t.jsonl", rows), tmp_path, models / "bert")
    assert yaml.safe_load(out.read_text())["seed"] == 0


def test_nothing_is_overwritten(models: Path, tmp_path: Path):
    data = table(tmp_path / "pets.jsonl", PETS)
    (tmp_path / "new" / "r-data").mkdir(parents=True)
    with pytest.raises(RecipeError, match=r"r-data: something stands here, and is not overwritten; .* with --out"):
        suggested(data, tmp_path, models / "bert", text="body", label="kind")
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "r-data"]


def test_a_model_must_be_at_hand_and_write_where_that_is_asked(models: Path, tmp_path: Path):
    data = table(tmp_path / "t.jsonl", [{"prompt": text, "completion": "yes"} for text in texts(30)])
    with pytest.raises(ModelError, match="no model is at hand; name some with --models"):
        suggested(data, tmp_path)
    with pytest.raises(ModelError, match="this model fills gaps and writes no text"):
        suggested(data, tmp_path, models / "bert")
    assert not (tmp_path / "new").exists()


def test_a_table_of_no_record_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(DataError, match=r"fit no record\. For a Labelled .* Did you mean 'txt'\?"):
        suggested(table(tmp_path / "t.jsonl", [{"txt": "a", "label": "x"}]), tmp_path)
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_to_do_next(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "pets.jsonl", PETS)
    arguments = ["suggest", "pets.jsonl", "--models", str(models / "bert"), "--column", "text=body"]
    done = CliRunner().invoke(app, [*arguments, "--column", "label=kind"])
    assert done.exit_code == 0, done.output
    assert "burnish train recipe.yaml" in done.output
    assert check(Path("recipe.yaml"), [])[0].startswith("rows: 72 to train on")
    wrong = CliRunner().invoke(app, [*arguments, "--column", "kind"])
    assert str(wrong.exception) == "--column kind: write it as field=column, for example text=body"


def test_real_banking_questions_are_read_and_decided(models: Path, tmp_path: Path):
    with (real_data("banking77") / "train.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (tmp_path / "some.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[::20]])
    out, said = suggested(str(tmp_path / "some.csv"), tmp_path, models / "bert")
    recipe = read_recipe(out, Recipe)
    assert (recipe.task.kind, recipe.method.kind) == ("classify", "full")
    assert said[0] == "501 rows of Labelled: text from text, label from category"
    assert said[1] == "script: Latin 100.0%"
    assert any("0 texts of one side stand in another" in line for line in said)
