"""The pages on answers from passages and on prompts: their commands run, and what they say is what the code has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.prepare.beir import write_beir
from burnish.prepare.ground import Grounding
from burnish.records import Chunk, Question
from burnish.steps.ground_recipe import Ground

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["training.batch=4", "training.epochs=1", "training.precision=fp32", "task.max_new_tokens=4"]
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def commands(text: str) -> Iterator[list[str]]:
    for kind, _, block in FENCE.findall(text):
        if kind == "console":
            for line in block.splitlines():
                program, *arguments = shlex.split(line.removeprefix("$ "))
                assert program == "burnish"
                yield arguments


def run(name: str, models: dict[str, str]) -> None:
    """Write a page's files and run its commands, with tiny models for those that it names."""
    text = page(name)
    for kind, file, block in FENCE.findall(text):
        for real, small in models.items():
            block = block.replace(real, small)  # noqa: PLW2901 (the block as the test runs it)
        if kind == "yaml":
            Path(block.split()[1]).write_text(block, encoding="utf-8")
        elif file:
            Path(file).write_text(block, encoding="utf-8")
            Path("test.jsonl").write_text(block.replace("password", "w1").replace("order", "w2"), encoding="utf-8")
    for arguments in commands(text):
        trains = arguments[0] in ("train", "evaluate") and arguments[1].endswith(".yaml")
        small = [part for change in SMALL for part in ("--set", change)] if trains else []
        if arguments[0] == "preferences":  # the answers of a random model are all nearly as wrong
            small = ["--set", "gap=0.0001"]
        done = CliRunner().invoke(app, [*arguments, *small], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    for kind, _, block in FENCE.findall(text):
        if kind == "text":
            for line in block.splitlines():
                assert Path(line.split()[0]).exists(), line
    names: dict[str, Any] = {"passages": [Chunk(id="c", text="red cat")]}
    for kind, _, block in FENCE.findall(text):
        if kind == "python":
            exec(compile(block, f"{name}.md", "exec"), names)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    words = [*tiny.WORDS, *re.findall(r"\w+", page("ground") + page("prompting"))]
    known = list(dict.fromkeys(words))
    return {
        "embedded/minilm": str(tiny.tiny_bert(tmp_path / "bert", words=known)),
        "embedded/smollm2": str(tiny.tiny_llama(tmp_path / "llama", words=known)),
    }


def test_the_page_on_answers_from_passages_runs(models: dict[str, str]) -> None:
    words = tiny.WORDS[-20:]
    chunks = [Chunk(id=f"c{n}", title=word, text=f"{word} cat {words[n - 1]}") for n, word in enumerate(words)]
    asked = [
        Question(id=f"q{n}", question=f"question {word} cat", answers=(word,), gold=(f"c{n}",))
        for n, word in enumerate(words)
    ]
    write_beir(Path("data"), chunks, {"train": asked[:14], "dev": asked[14:17], "test": asked[17:]})
    run("ground", models)


def test_the_page_on_prompts_runs(models: dict[str, str]) -> None:
    run("prompting", models)


def test_the_settings_and_defaults_are_those_of_the_code() -> None:
    prompt = Ground.model_fields["prompt"].default
    told = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", page("ground"), re.MULTILINE))
    ours = {f"rows.{name}": field.default for name, field in Grounding.model_fields.items()}
    ours |= {f"prompt.{name}": getattr(prompt, name) for name in ("passages", "abstain", "cite")}
    assert told == {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in ours.items()}
    assert f"`prompt.passage_words` (`{prompt.passage_words}`)" in page("ground")


@pytest.mark.parametrize("name", ["ground", "prompting"])
def test_a_page_is_short_and_its_links_lead_somewhere(name: str) -> None:
    text = page(name)
    assert len(text.splitlines()) <= 120
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert f"docs/{name}.md" in (ROOT / "README.md").read_text(encoding="utf-8")
