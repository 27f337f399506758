"""From passages without labels to training rows, through the commands' own steps."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import tiny
from burnish.errors import DataError
from burnish.generators import Generator, Writer
from burnish.prepare.beir import write_beir
from burnish.prepare.crops import Crops
from burnish.prepare.synthesize import ANSWER, Synthesis
from burnish.readers.beir import Beir
from burnish.records import Chunk, Message, Pair, Question, read_jsonl
from burnish.retrievers import Retriever
from burnish.steps.synthesize import RECORD, crops, questions, read_corpus

THINGS = [f"thing{n} kind{n} place{n} colour{n} sound{n} taste{n} size{n} age{n}" for n in range(12)]


class Parrot(Generator):
    """Asks for three words of the passage, and answers with one."""

    def load(self) -> Writer:
        return _Parrot()


class _Parrot:
    parameters = 0

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        done(len(prompts))
        return [self._one(*prompt) for prompt in prompts]

    def _one(self, system: Message, user: Message) -> str:
        words = user.content.split()
        return words[1] if system.content == ANSWER else f"where is {words[1]} {words[2]}?"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a table of texts."""
    lines = [json.dumps({"text": text}) for text in THINGS]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "docs.jsonl"


def make(corpus: Path, folder: Path) -> list[str]:
    said: list[str] = []
    questions(
        corpus,
        folder,
        writer=Parrot(),
        retriever=Retriever.read("bm25"),
        settings=Synthesis(per_passage=1, top_k=1),
        passages=10,
        seed=0,
        say=said.append,
        progress=lambda *_: None,
    )
    return said


def test_questions_become_a_beir_folder_whose_sides_share_no_document(corpus: Path, tmp_path: Path) -> None:
    assert make(corpus, tmp_path / "out") == ["10 questions were written about 10 passages, and 10 hold up"]
    sides = {name: Beir(path=tmp_path / "out", split=name).load().questions for name in ("train", "dev", "test")}
    assert {name: len(found) for name, found in sides.items()} == {"train": 8, "dev": 1, "test": 1}
    assert len({question.gold for found in sides.values() for question in found}) == 10
    record = json.loads((tmp_path / "out" / RECORD).read_text(encoding="utf-8"))
    assert record["questions"] == {"train": 8, "dev": 1, "test": 1}
    assert record["retriever"]["kind"] == "bm25"


def test_what_stands_in_the_folder_is_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    make(corpus, tmp_path / "out")
    with pytest.raises(DataError, match="something stands here already"):
        make(corpus, tmp_path / "out")


def test_crops_become_pairs_once(corpus: Path, tmp_path: Path) -> None:
    said: list[str] = []
    table = tmp_path / "pairs.jsonl"
    assert crops(corpus, table, settings=Crops(fewest_words=2), seed=0, say=said.append) == 12
    rows = read_jsonl(table, Pair)
    assert all(set(row.query.split()) <= set(THINGS[n].split()) for n, row in enumerate(rows))
    with pytest.raises(DataError, match="this file stands here already"):
        crops(corpus, table, settings=Crops(), seed=0, say=said.append)
    with pytest.raises(DataError, match="every passage has fewer than 18 words"):
        crops(corpus, tmp_path / "other.jsonl", settings=Crops(fewest_words=9), seed=0, say=said.append)
    assert said == ["12 passages of fewer than 18 words were left out"]
    assert not (tmp_path / "other.jsonl").exists()


def test_a_beir_folder_is_a_corpus(tmp_path: Path) -> None:
    chunks = [Chunk(id="a", title="T", text="one two", source="doc", group="g", end=7)]
    write_beir(tmp_path / "beir", chunks, {"train": [Question(id="q", question="what", gold=("a",))]})
    assert read_corpus(tmp_path / "beir") == chunks


def test_a_trained_writer_runs(corpus: Path, tmp_path: Path) -> None:
    """A network of random weights writes nothing that holds up; it is said so, and nothing is left behind."""
    with pytest.raises(DataError, match="no question holds up"):
        questions(
            corpus,
            tmp_path / "out",
            writer=Generator.read({"kind": "local", "model": str(tiny.tiny_llama(tmp_path / "llama"))}),
            retriever=Retriever.read("bm25"),
            settings=Synthesis(),
            passages=2,
            seed=0,
            say=lambda _: None,
            progress=lambda *_: None,
        )
    assert not (tmp_path / "out").exists()
