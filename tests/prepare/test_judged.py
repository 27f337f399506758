from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.prepare.beir import write_beir
from burnish.prepare.judged import held_out_pairs, is_beir, training_pairs
from burnish.records import Chunk, Question

CHUNKS = [Chunk(id=f"c{n}", title="T" if n else "", text=f"text {n}") for n in range(7)]
TRAIN = [Question(id="q1", question="one?", gold=("c0", "c1"), grades=(2, 1))]
TEST = [Question(id="q2", question="two?", gold=("c2",)), Question(id="q3", question="three?", gold=("c2", "c3"))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_beir(tmp_path / "set", CHUNKS, {"train": TRAIN, "test": TEST})
    return tmp_path / "set"


def test_a_folder_with_corpus_and_queries_is_known(folder: Path):
    assert is_beir(folder)
    assert not is_beir(folder / "qrels")
    assert not is_beir(folder / "corpus.jsonl")


def test_each_judged_query_is_a_pair_with_titles_and_grades(folder: Path):
    [row] = training_pairs(folder)
    assert (row.id, row.query, row.negatives) == ("q1", "one?", ())
    assert list(row.graded.values()) == [2, 1]
    assert [text.split() for text in row.positives] == [["text", "0"], ["T", "text", "1"]]


def test_held_out_rows_hold_every_passage_of_the_corpus_once_beside_their_positives(folder: Path):
    rows = held_out_pairs(folder, "test")
    assert [row.id for row in rows] == ["q2", "q3"]
    right = {text for row in rows for text in row.positives}
    dealt = [text for row in rows for text in row.negatives]
    assert len(dealt) == len(set(dealt)) == 5
    assert not right & set(dealt)
    assert len(right | set(dealt)) == len(CHUNKS)


def test_a_split_that_is_missing_or_judges_nothing_right_is_an_error(folder: Path):
    with pytest.raises(DataError, match=r"there is no dev\.tsv\. .*There are: test, train"):
        held_out_pairs(folder, "dev")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tc0\t0\n")
    with pytest.raises(DataError, match=r"dev\.tsv: no query has a passage with a score of 1 or more"):
        training_pairs(folder, "dev")
