"""Every example of the pages on tasks, methods and data runs, in the order in which a reader meets it.

A fenced block whose first line names a file, or whose fence does (```csv train.csv), is that file. Commands and Python
run in a folder of their own; tiny models that know the page's words stand in for those that are named.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

import tiny
from burnish.cli import main
from burnish.generators.local import Local
from burnish.methods import Method
from burnish.models.reading import SENTINEL
from burnish.prepare.synthesize import ANSWER
from burnish.recipe import Recipe, read_recipe
from burnish.records import Message
from burnish.tasks import Task
from burnish.tasks.generate import Generate
from burnish.tasks.rag import Rag
from every.cells import BACKBONES, REFUSED, Cell

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [*Task.names(), "data", "distill", "faithfulness", "methods", "pairs", "towers", "unlabelled"]
LINES = 120  # of a page: a screen or two
SMALL = ["training.batch=2", "training.epochs=1", "training.precision=fp32"]
SIZES = {  # what a tiny model can read
    "extract": ["task.max_tokens=48", "task.overlap=4", "task.question_tokens=16"],
    "generate": ["task.max_new_tokens=2"],
    "pretrain": ["task.block_tokens=16"],
    "rag": ["task.max_new_tokens=2", "task.query_tokens=16", "task.passage_tokens=16"],
    "reinforce": ["task.max_new_tokens=2", "task.samples=2"],
    "reward": ["task.max_tokens=64"],
    "rerank": ["task.max_tokens=48"],
}
WITH_RECIPE = ("check", "train")
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Asking:
    """A writer who asks about the first words of a passage, and answers with one of them."""

    parameters = 0

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        done(len(prompts))
        words = [asked.content.split() for _, asked in prompts]
        answers = [instruction.content == ANSWER for instruction, _ in prompts]
        return [a[1] if right else f"what about {' '.join(a[1:4])}?" for a, right in zip(words, answers, strict=True)]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is, and what stands in it."""

    kind: str
    file: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    for kind, file, text in FENCE.findall((DOCS / f"{page}.md").read_text(encoding="utf-8")):
        named = re.match(r"# ([\w-]+\.yaml)\n", text) if kind == "yaml" else None
        yield Block(kind, named[1] if named else file, text)


@pytest.fixture
def burnish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Return a function that runs a command in this process, and returns what it prints."""

    def run(arguments: list[str]) -> str:
        monkeypatch.setattr("sys.argv", ["burnish", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert not left.value.code, f"burnish {' '.join(arguments)}: {err}"
        return out

    return run


def models(page: str, folder: Path) -> dict[str, Path]:
    """Return tiny models that know a page's words, by the names that they stand for."""
    words = re.findall(r"\w+", (DOCS / f"{page}.md").read_text(encoding="utf-8"))
    known = [*tiny.WORDS, *dict.fromkeys(words), *map(SENTINEL.format, range(8))]
    return {
        "embedded/minilm": tiny.tiny_bert(folder / "bert", words=known),
        "embedded/smollm2": tiny.tiny_llama(folder / "llama", words=known),
        "HuggingFaceTB/SmolLM2-360M-Instruct": tiny.tiny_llama(folder / "larger", seed=1, words=known),
    }


def write_tables(page: str) -> None:
    """Write the page's files, and its training rows for each other side that one of its recipes names."""
    written = {block.file: block.text for block in blocks(page) if block.file}
    for name, text in written.items():
        Path(name).write_text(text, encoding="utf-8")
    for name in (name for name in written if name.endswith(".yaml")):
        data = read_recipe(Path(name), Recipe).data
        for place in (data.dev, data.test):
            if place and data.train in written and not Path(place).exists():
                Path(place).write_text(written[data.train], encoding="utf-8")


def tiny_sized(arguments: list[str], stand_ins: dict[str, Path]) -> list[str]:
    """Return a command on a recipe with another model and small sizes."""
    recipe = read_recipe(Path(arguments[1]), Recipe)
    changes = [f"model={stand_ins[recipe.model]}", *SMALL, *SIZES.get(recipe.task.kind, [])]
    if isinstance(recipe.task, Generate) and recipe.task.teacher:
        changes.append(f"task.teacher.model={stand_ins[recipe.task.teacher.model]}")
    if isinstance(recipe.task, Rag):
        changes.append(f"task.retriever={stand_ins[recipe.task.retriever]}")
    return [*arguments, *(part for change in changes for part in ("--set", change))]


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burnish: Callable[[list[str]], str]
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    stand_ins = models(page, tmp_path / "models")
    if page == "unlabelled":
        monkeypatch.setattr(Local, "load", lambda _: Asking())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_tables(page)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.kind == "python":
            exec(compile(block.text, f"{page}.md", "exec"), names)
        elif block.kind == "console":
            for line in block.text.splitlines():
                program, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
                assert program == "burnish"
                small = tiny_sized(arguments, stand_ins) if arguments[0] in WITH_RECIPE else arguments
                burnish([str(stand_ins.get(part, part)) for part in small])
        elif block.kind == "text":
            assert [line for line in block.text.splitlines() if not Path(line.split()[0]).exists()] == []
        else:
            assert block.file, f"{page}.md has a block that nothing reads:\n{block.text}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_its_links_lead_somewhere(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (DOCS / link).exists()] == []
    assert f"docs/{page}.md" in (DOCS.parent / "README.md").read_text(encoding="utf-8")


def test_the_methods_and_their_settings_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.+?) \|$", (DOCS / "methods.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: dict(pair.split(": ", 1) for pair in re.findall(r"`([^`]+)`", settings)) for name, settings in rows}
    assert told == {name: shipped(Method.named(name)) for name in Method.names()}


def test_what_fits_what_is_what_the_conformance_tests_find() -> None:
    letters = {"bert": "E", "llama": "D", "t5": "S"}
    tasks = Task.names()
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert f"| | {' | '.join(tasks)} |" in text
    for method in Method.names():
        fits = [[b for b in BACKBONES if not Cell(method, task, b).entry(REFUSED)] for task in tasks]
        cells = [" ".join(letters[backbone] for backbone in found) or "–" for found in fits]
        assert f"| {method} | {' | '.join(cells)} |" in text


def shipped(method: type[Method]) -> dict[str, str]:
    """Return each setting of a method with its default, as the page writes it; of a choice, all there is."""
    found = {}
    for name, field in method.model_fields.items():
        value = field.default
        if all(isinstance(choice, str) for choice in get_args(field.annotation)) and get_args(field.annotation):
            others = [choice for choice in get_args(field.annotation) if choice != value]
            found[name] = " or ".join([value, *others])
        elif isinstance(value, bool) or value is None:
            found[name] = {True: "true", False: "false", None: "null"}[value]
        elif isinstance(value, str):
            found[name] = "…"
        else:
            found[name] = "[]" if value == () else f"{value:g}"
    return found
