import math
from pathlib import Path

import pytest

from burnish.records import Chunk
from burnish.retrievers import Searcher
from burnish.retrievers.bm25 import Bm25

CHUNKS = [
    Chunk(id="a", title="zipfile.is_zipfile", text="tell whether a file is a zip file"),
    Chunk(id="b", title="shutil.copy", text="copy a file, and its mode"),
    Chunk(id="c", title="os.remove", text="delete"),
    Chunk(id="d", title="os.unlink", text="delete"),
]


def searcher(chunks: list[Chunk], folder: Path, bm25: Bm25 | None = None) -> Searcher:
    return (bm25 or Bm25()).build(chunks, cache=folder, progress=lambda *_: None)


def test_the_scores_are_bm25_in_lucenes_form(tmp_path: Path) -> None:
    texts = [["red", "cat"], ["red", "red", "dog", "bird"], ["fish"]]
    chunks = [Chunk(id=str(place), text=" ".join(text)) for place, text in enumerate(texts)]
    k1, b, average = 1.2, 0.5, 7 / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = {
        str(place): idf * text.count("red") / (text.count("red") + k1 * (1 - b + b * len(text) / average))
        for place, text in enumerate(texts[:2])
    }
    [hits] = searcher(chunks, tmp_path, Bm25(k1=k1, b=b)).search(["red"], 10)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)


def test_titles_count_and_case_does_not(tmp_path: Path) -> None:
    [hits] = searcher(CHUNKS, tmp_path).search(["Shutil COPY"], 10)
    assert [hit.id for hit in hits] == ["b"]


def test_passages_without_a_word_of_the_question_are_not_returned(tmp_path: Path) -> None:
    found = searcher(CHUNKS, tmp_path).search(["file", "nothing known here", "", "?!"], 10)
    assert [[hit.id for hit in hits] for hits in found] == [["a", "b"], [], [], []]


def test_equal_scores_are_in_descending_order_of_id(tmp_path: Path) -> None:
    for chunks in (CHUNKS, CHUNKS[::-1]):
        [hits] = searcher(chunks, tmp_path).search(["delete"], 10)
        assert [hit.id for hit in hits] == ["d", "c"]
        assert hits[0].score == hits[1].score
        assert [hit.id for hit in searcher(chunks, tmp_path).search(["delete"], 1)[0]] == ["d"]


def test_a_corpus_without_a_word_finds_nothing(tmp_path: Path) -> None:
    assert searcher([Chunk(id="a", text="…"), Chunk(id="b", text="!")], tmp_path).search(["file"], 3) == [[]]
