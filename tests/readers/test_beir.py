import json
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.readers import Reader
from burnish.readers.beir import Beir

HEADER = "query-id\tcorpus-id\tscore\n"


def folder(
    path: Path,
    *,
    corpus: list[dict[str, object]] | None = None,
    queries: list[dict[str, object]] | None = None,
    **qrels: str,
) -> Path:
    (path / "qrels").mkdir()
    rows = corpus if corpus is not None else [{"_id": "a", "title": "A", "text": "one"}, {"_id": "b", "text": "two"}]
    (path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = queries or [{"_id": "1", "text": "what is one?"}, {"_id": "2", "text": "what is two?"}]
    (path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    for name, text in qrels.items():
        (path / "qrels" / f"{name}.tsv").write_text(text)
    return path


def fault(path: Path, **settings: str) -> str:
    with pytest.raises(DataError) as caught:
        Beir(path=path, **settings).load()
    return str(caught.value)


def test_passages_questions_and_judgements_are_read(tmp_path):
    folder(tmp_path, test=HEADER + "1\ta\t1\n2\tb\t2\n2\ta\t0\n")
    source = Reader.read({"kind": "beir", "path": str(tmp_path)}).load()
    assert [(c.id, c.title, c.text) for c in source.chunks] == [("a", "A", "one"), ("b", "", "two")]
    assert [(q.id, q.question, q.gold) for q in source.questions] == [
        ("1", "what is one?", ("a",)),
        ("2", "what is two?", ("b",)),
    ]
    assert source.rejected == []


def test_queries_without_a_relevant_passage_are_rejected_with_the_reason(tmp_path):
    source = Beir(path=folder(tmp_path, test=HEADER + "1\ta\t0\n")).load()
    assert source.questions == []
    assert [(r.id, r.reason) for r in source.rejected] == [("1", "no relevant passage"), ("2", "not judged")]


def test_all_judgement_files_count_unless_one_is_named(tmp_path):
    folder(tmp_path, test=HEADER + "1\ta\t1\n", dev="score\tquery-id\tcorpus-id\n1\t2\tb\n1\t1\ta\n")
    assert [q.gold for q in Beir(path=tmp_path).load().questions] == [("a",), ("b",)]
    assert [q.id for q in Beir(path=tmp_path, split="test").load().questions] == ["1"]
    assert "there is no tset.tsv. Did you mean 'test'?" in fault(tmp_path, split="tset")


def test_answers_may_stand_in_the_row_or_its_metadata(tmp_path):
    queries = [
        {"_id": 1, "text": "q", "answers": ["x"]},
        {"_id": 2, "text": "r", "metadata": {"answers": ["y"], "url": "z"}},
    ]
    folder(tmp_path, queries=queries, test=HEADER + "1\ta\t1\n2\tb\t1\n")
    assert [q.answers for q in Beir(path=tmp_path).load().questions] == [("x",), ("y",)]


def test_a_judgement_of_something_unknown_names_line_and_near_miss(tmp_path):
    corpus = [{"_id": "zebra-1", "text": "one"}]
    folder(tmp_path, corpus=corpus, test=HEADER + "1\tzebra-1\t1\n7\tzebra_1\t1\n")
    message = fault(tmp_path)
    assert "test.tsv:3: there is no query '7'." in message
    assert "test.tsv:3: there is no passage 'zebra_1'. Did you mean 'zebra-1'?" in message


def test_a_bad_row_of_judgements_is_named(tmp_path):
    message = fault(folder(tmp_path, test=HEADER + "1\ta\thigh\n1 a 1\n"))
    assert "test.tsv:2: score 'high' is not a whole number" in message
    assert "test.tsv:3: 3 columns separated by tabs are needed (found 1)" in message


def test_a_missing_header_is_named(tmp_path):
    assert "test.tsv:1: the header has no column 'query-id'. Did you mean 'query_id'?" in fault(
        folder(tmp_path, test="query_id\tcorpus-id\tscore\n1\ta\t1\n")
    )


def test_missing_files_and_empty_corpora_are_named(tmp_path):
    assert "there is no such folder" in fault(tmp_path / "nowhere")
    assert "corpus.jsonl: there is no such file" in fault(tmp_path)
    folder(tmp_path, corpus=[])
    assert "corpus.jsonl: the file holds no rows" in fault(tmp_path)


def test_no_judgements_at_all_are_an_error(tmp_path):
    assert "there is no file of judgements here" in fault(folder(tmp_path))


def test_rows_that_are_not_json_or_lack_a_key_are_named(tmp_path):
    folder(tmp_path, test=HEADER + "1\ta\t1\n")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a"}\nnot json\n')
    message = fault(tmp_path)
    assert "corpus.jsonl:1: text: this key is needed and missing" in message
    assert "corpus.jsonl:2: this row is not JSON" in message


def test_scores_above_one_are_grades_and_the_highest_of_several_files_counts(tmp_path):
    folder(tmp_path, dev=HEADER + "1\ta\t1\n2\ta\t1\n", test=HEADER + "1\tb\t3\n1\ta\t2\n2\tb\t0\n")
    one, two = Beir(path=tmp_path).load().questions
    assert one.graded == {"a": 2, "b": 3}
    assert (two.gold, two.grades) == (("a",), ())


def test_metadata_of_other_makers_means_nothing(tmp_path):
    corpus = [{"_id": "a", "text": "one", "metadata": {"source": 3, "start": "late"}}]
    queries = [{"_id": "1", "text": "q", "metadata": {"group": [1]}}]
    source = Beir(path=folder(tmp_path, corpus=corpus, queries=queries, test=HEADER + "1\ta\t1\n")).load()
    assert (source.chunks[0].source, source.chunks[0].start, source.chunks[0].end) == ("a", 0, 3)
    assert source.questions[0].group == ""
