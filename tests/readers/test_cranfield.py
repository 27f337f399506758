from pathlib import Path

import bm25s
import pytest

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.readers import Reader, Source
from burnish.readers.cranfield import Cranfield
from real_data import real_data

DOCUMENTS = """.I 1
.T
wings in a
slipstream .
.A
somebody
.B
somewhere
.W
wings in a
slipstream .
they lift .
.I 2
.T
.A
.B
.W
.I 3
.T
heat
.W
heat flows
.W
downwards
"""
QUESTIONS = ".I 001\n.W\ndo wings\nlift .\n.I 004\n.W\nhow does heat flow .\n"


def folder(path: Path, judgements: str, *, questions: str = QUESTIONS) -> Path:
    for name, text in (("cran.all.1400", DOCUMENTS), ("cran.qry", questions), ("cranqrel", judgements)):
        (path / name).write_bytes(text.replace("\n", "\r\n").encode())
    return path


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        Cranfield(path=path).load()
    return str(caught.value)


def test_documents_and_questions_are_read_in_single_lines(tmp_path: Path):
    source = Reader.read({"kind": "cranfield", "path": str(folder(tmp_path, "1 1 1\n2 3 2\n"))}).load()
    assert [(c.id, c.title, c.text) for c in source.chunks] == [
        ("1", "wings in a slipstream .", "wings in a slipstream . they lift ."),
        ("2", "", ""),
        ("3", "heat", "heat flows downwards"),
    ]
    assert [(q.id, q.question) for q in source.questions] == [("1", "do wings lift ."), ("2", "how does heat flow .")]


def test_a_question_is_judged_by_its_place_and_the_better_code_is_the_higher_grade(tmp_path: Path):
    source = Cranfield(path=folder(tmp_path, "1 1 1\n1 2 4\n2 3 -1\n2 1 3 \n")).load()
    assert [q.graded for q in source.questions] == [{"1": 4, "2": 1}, {"3": 1, "1": 2}]


def test_rows_with_the_unknown_code_get_the_grade_that_is_asked_for_or_are_left_out(tmp_path: Path):
    folder(tmp_path, "1 1 2\n1 3 -1\n2 3 -1\n")
    assert [q.graded for q in Cranfield(path=tmp_path, uncoded=2).load().questions] == [{"1": 3, "3": 2}, {"3": 2}]
    source = Cranfield(path=tmp_path, uncoded=None).load()
    assert [q.graded for q in source.questions] == [{"1": 3}]
    assert [(r.id, r.reason) for r in source.rejected] == [("2", "no relevant passage")]


def test_faulty_judgements_are_all_named(tmp_path: Path):
    message = fault(folder(tmp_path, "1 1 1\n4 1 1\n1 9 1\n1 1 5\n1 1\n"))
    assert "cranqrel:2: there is no question 4; their places are 1 to 2" in message
    assert "cranqrel:3: there is no document '9'." in message
    assert "cranqrel:4: a question's place, a document's number, and a code of -1 or 1 to 4 are needed here" in message
    assert "cranqrel:5:" in message


def test_missing_and_foreign_files_are_named(tmp_path: Path):
    assert "cran.all.1400: there is no such file. A folder with cran.all.1400, cran.qry, cranqrel" in fault(tmp_path)
    folder(tmp_path, "1 1 1\n", questions="none\n")
    assert "cran.qry: no row of this file begins with .I and a number" in fault(tmp_path)
    (tmp_path / "cranqrel").write_bytes(b"\xff")
    (tmp_path / "cran.qry").write_text(QUESTIONS)
    assert "cranqrel: this file is no ASCII text" in fault(tmp_path)


def ndcg(source: Source) -> float:
    """Return nDCG@10 of BM25 as bm25s has it, without English stop words."""
    texts = [f"{chunk.title} {chunk.text}" for chunk in source.chunks]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    asked = bm25s.tokenize([q.question for q in source.questions], stopwords="en", show_progress=False)
    places, _ = index.retrieve(asked, k=10, show_progress=False)
    rankings = [[source.chunks[place].id for place in row] for row in places]
    return Metric.read("nDCG@10").value(rankings, [question.graded for question in source.questions])


def test_bm25_has_the_known_score_with_the_uncoded_rows_and_without_them():
    path = real_data("cranfield")
    source = Cranfield(path=path).load()
    assert (len(source.chunks), len(source.questions), len(source.rejected)) == (1400, 225, 0)
    assert [chunk.id for chunk in source.chunks if not chunk.text] == ["471", "995"]
    assert sum(len(question.gold) for question in source.questions) == 1837
    assert ndcg(source) == pytest.approx(0.417, abs=5e-4)
    assert ndcg(Cranfield(path=path, uncoded=None).load()) == pytest.approx(0.352, abs=5e-4)
