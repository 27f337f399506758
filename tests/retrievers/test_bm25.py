import math
from pathlib import Path

import numpy as np
import pytest

from burnish.metrics import Metric
from burnish.readers.cranfield import Cranfield
from burnish.records import Chunk
from burnish.retrievers import Searcher
from burnish.retrievers.bm25 import Bm25, best
from real_data import real_data

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


def test_words_that_carry_nothing_are_not_searched_for_unless_there_are_no_others(tmp_path: Path) -> None:
    asked = ["is it a file", "is a", "it's"]
    plain = searcher(CHUNKS, tmp_path, Bm25(stop_words="none"))
    assert [[hit.id for hit in hits] for hits in plain.search(asked, 10)] == [["a", "b"], ["a", "b"], []]
    english = searcher(CHUNKS, tmp_path)
    assert english.search(asked[:1], 10) == plain.search(["file"], 10)
    assert english.search(asked[1:], 10) == plain.search(asked[1:], 10)


@pytest.mark.parametrize("k", [0, 1, 3, 10, 50, 1000])
def test_the_best_are_those_of_a_full_stable_sort(k: int) -> None:
    draw = np.random.default_rng(0)
    for levels in (2, 5, 1000):
        scores = draw.integers(0, levels, 200).astype(np.float32)
        whole = [place for place in (-scores).argsort(kind="stable")[:k].tolist() if scores[place] > 0]
        assert best(scores, k).tolist() == whole


@pytest.mark.parametrize(
    ("uncoded", "bm25", "ndcg"),
    [
        (1, Bm25(), 0.417),
        (None, Bm25(), 0.352),
        (1, Bm25(stop_words="none"), 0.414),
        (None, Bm25(stop_words="none"), 0.349),
    ],
)
def test_cranfield_has_the_known_score(tmp_path: Path, uncoded: int | None, bm25: Bm25, ndcg: float) -> None:
    source = Cranfield(path=real_data("cranfield"), uncoded=uncoded).load()
    hits = searcher(source.chunks, tmp_path, bm25).search([question.question for question in source.questions], 10)
    rankings = [[hit.id for hit in found] for found in hits]
    graded = [question.graded for question in source.questions]
    assert Metric.read("nDCG@10").value(rankings, graded) == pytest.approx(ndcg, abs=5e-4)
