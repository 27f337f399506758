import json
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.prepare.beir import export_beir, write_beir
from burnish.prepare.corpus import prepare
from burnish.prepare.folder import save
from burnish.readers import Source
from burnish.readers.beir import Beir
from burnish.records import Chunk, Question

CHUNKS = [
    Chunk(id="a#1", group="A", title="Ä title", text="one\u2028line\tand tab", source="a.txt", start=3, end=19),
    Chunk(id="b", text="", source="b.txt"),
    Chunk(id="c d", text='"quoted"', source=""),
]
TRAIN = [
    Question(id="q1", group="A", question="one?", answers=("1", "eins"), gold=("a#1", "b"), grades=(3, 1)),
    Question(id="q2", question='two\n"?"', gold=("b",)),
]
TEST = [Question(id="q3", question="three?", gold=("c d", "a#1"))]


def test_what_is_written_is_read_again_split_by_split(tmp_path: Path):
    write_beir(tmp_path / "out", CHUNKS, {"train": TRAIN, "test": TEST})
    for split, questions in (("train", TRAIN), ("test", TEST)):
        source = Beir(path=tmp_path / "out", split=split).load()
        assert source.chunks == CHUNKS
        assert source.questions == questions
    assert Beir(path=tmp_path / "out").load().questions == [*TRAIN, *TEST]


def test_the_files_are_what_other_libraries_read(tmp_path: Path):
    write_beir(tmp_path / "out", CHUNKS, {"train": TRAIN})
    rows = [json.loads(line) for line in (tmp_path / "out" / "corpus.jsonl").read_text().split("\n")[:-1]]
    assert [(row["_id"], row["title"], row["text"]) for row in rows] == [(c.id, c.title, c.text) for c in CHUNKS]
    assert (tmp_path / "out" / "qrels" / "train.tsv").read_text() == (
        "query-id\tcorpus-id\tscore\nq1\ta#1\t3\nq1\tb\t1\nq2\tb\t1\n"
    )


def test_a_question_without_a_right_passage_is_found_not_judged(tmp_path: Path):
    write_beir(tmp_path / "out", CHUNKS, {"test": [*TEST, Question(id="q4", question="four?")]})
    source = Beir(path=tmp_path / "out").load()
    assert [(row.id, row.reason) for row in source.rejected] == [("q4", "not judged")]


def test_what_stands_there_stays(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="something stands here already, and is not overwritten"):
        write_beir(tmp_path, CHUNKS, {"train": TRAIN})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_faults_are_named_and_nothing_is_written(tmp_path: Path):
    chunks = [*CHUNKS, Chunk(id="b", text="again"), Chunk(id="x\ty", text="tab"), Chunk(id=" z", text="space")]
    with pytest.raises(DataError) as caught:
        write_beir(tmp_path / "out", chunks, {"a/b": TRAIN})
    message = str(caught.value)
    assert "split 'a/b': a name without '/' is needed" in message
    assert "two chunks are called 'b'" in message
    assert "chunk 'x\\ty': an id with no tab, line end or space around it is needed" in message
    assert "chunk ' z'" in message
    with pytest.raises(DataError, match="its gold passage 'b' is not in the corpus"):
        write_beir(tmp_path / "out", CHUNKS[:1], {"train": TRAIN})
    assert not list(tmp_path.iterdir())


def test_a_prepared_corpus_keeps_its_splits_and_grades(tmp_path: Path):
    chunks = [Chunk(id=f"c{n}", group=f"g{n}", text=f"passage number {n} " * 3) for n in range(12)]
    questions = [
        Question(id=f"q{n}", question=f"what is {n}?", gold=(f"c{n}",), grades=(n % 3 + 1,)) for n in range(12)
    ]
    prepared = prepare(Source(chunks, questions, []), name="x", shares={"train": 0.5, "test": 0.5}, seed=0)
    save(prepared, tmp_path / "run" / "data")
    counts = export_beir(tmp_path / "run", tmp_path / "out")
    assert counts == {"train": len(prepared.train), "test": len(prepared.test)}
    assert Beir(path=tmp_path / "out", split="test").load().questions == prepared.test
    assert {grade for question in prepared.test for grade in question.graded.values()} > {1}


def test_a_folder_that_holds_no_corpus_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="this is not a prepared corpus"):
        export_beir(tmp_path, tmp_path / "out")
