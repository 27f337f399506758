"""The page on mining: its commands run, its files come out, its table is that of the code."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.prepare.beir import write_beir
from burnish.prepare.mining import Rules
from burnish.records import Chunk, Question

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mine.md").read_text(encoding="utf-8")
SMALL = ["rounds.training.precision=fp32", "rounds.training.batch=4", "rounds.count=1"]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_commands_run_and_write_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bert = str(tiny.tiny_bert(tmp_path / "bert"))
    words = tiny.WORDS[-20:]
    chunks = [Chunk(id=f"c{n}", text=f"{word} cat {words[n - 1]}") for n, word in enumerate(words)]
    asked = [Question(id=f"q{n}", question=f"question {word} cat", gold=(f"c{n}",)) for n, word in enumerate(words)]
    write_beir(Path("data"), chunks, {"train": asked[:14], "dev": asked[14:]})
    for text in blocks("yaml"):
        Path(text.split()[1]).write_text(text.replace("embedded/minilm", bert), encoding="utf-8")
    for command in (line for text in blocks("console") for line in text.splitlines()):
        arguments = shlex.split(command.removeprefix("$ burnish ").replace("embedded/minilm", bert))
        small = [part for change in SMALL for part in ("--set", change)] if "rounds.yaml" in command else []
        CliRunner().invoke(app, [*arguments, *small], catch_exceptions=False)
    for line in (line for text in blocks("text") for line in text.splitlines()):
        assert Path(line.split()[0]).exists(), line
    assert Path("more.jsonl").is_file()
    assert Path("runs/rounds/rounds.json").is_file()


def test_the_pages_rules_and_defaults_are_those_of_the_code() -> None:
    told = dict(re.findall(r"`(\w+)` (?:\| |\()`([\w.]+)`", PAGE))
    defaults = {name: str(field.default).lower().replace("none", "null") for name, field in Rules.model_fields.items()}
    assert told == defaults


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) <= 120
