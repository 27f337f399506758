from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import tiny
from burnish.errors import ModelError
from burnish.models.cross import CrossEncoder
from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.retrievers.hybrid import Hybrid
from burnish.retrievers.reranked import Reranked
from burnish.text import fingerprint

TEXTS = ("one two three", "red and blue", "a green bird", "fish fish fish", "left or right", "question")
CHUNKS = [Chunk(id=f"c{number}", title="list", text=text) for number, text in enumerate(TEXTS)]
IDS = tuple(chunk.id for chunk in CHUNKS)
QUESTION = "which   red bird"


class Fixed(Retriever):
    """Returns the same ids for every question, cut at what is asked for."""

    ids: tuple[str, ...] = IDS

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        progress("indexing", len(chunks), len(chunks))
        (cache / fingerprint(*self.ids)).touch()
        return _FixedSearcher(self.ids)


class _FixedSearcher:
    def __init__(self, ids: Sequence[str]) -> None:
        self.notes: dict[str, int] = {"passages cut": 1}
        self._ids = ids

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [[Hit(key, -float(rank // 2)) for rank, key in enumerate(self._ids[:k])] for _ in questions]


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute as the reference does, whatever this chip is fast in."""
    monkeypatch.setattr("burnish.retrievers.reranked.chosen_dtype", lambda: torch.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained cross-encoder: one that has been saved."""
    folder = tmp_path_factory.mktemp("model")
    CrossEncoder.load(str(tiny.tiny_bert(folder / "bert"))).save(folder / "cross")
    return folder / "cross"


@pytest.fixture(scope="module")
def scores(model: Path) -> dict[str, float]:
    """Return the cross-encoder's score of each passage, by id."""
    texts = [f"{chunk.title}\n{chunk.text}" for chunk in CHUNKS]
    found = CrossEncoder.load(str(model)).score([("which red bird", text) for text in texts])
    return dict(zip(IDS, found, strict=True))


def search(reranked: Reranked, folder: Path, k: int, chunks: Sequence[Chunk] = CHUNKS) -> list[Hit]:
    first, second = reranked.build(chunks, cache=folder, progress=lambda *_: None).search([QUESTION, QUESTION], k)
    assert first == second
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)
    return first


def test_hits_stand_in_the_order_of_the_cross_encoder(model: Path, scores: dict[str, float], tmp_path: Path) -> None:
    found = search(Reranked(of=Fixed(), model=str(model)), tmp_path, 10)
    assert [hit.id for hit in found] == sorted(IDS, key=lambda key: -scores[key])
    assert [hit.score for hit in found] == pytest.approx([scores[hit.id] for hit in found], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("weight", [0.25, 0.6])
def test_both_scores_count_where_a_weight_is_given(
    model: Path, scores: dict[str, float], tmp_path: Path, weight: float
) -> None:
    found = search(Reranked(of=Fixed(), model=str(model), depth=4, weight=weight), tmp_path, 6)
    first = dict(zip(IDS[:4], (1.0, 1.0, 0.0, 0.0), strict=True))  # of 0, 0, -1, -1
    second = [scores[key] for key in IDS[:4]]
    unit = max(second) - min(second)
    mixed = {key: weight * (scores[key] - min(second)) / unit + (1 - weight) * first[key] for key in IDS[:4]}
    assert [hit.id for hit in found] == [*sorted(mixed, key=lambda key: -mixed[key]), *IDS[4:]]
    assert [hit.score for hit in found[:4]] == pytest.approx(sorted(mixed.values(), reverse=True), abs=1e-4)


def test_hits_that_score_alike_stand_as_the_cross_encoder_has_them(
    model: Path, scores: dict[str, float], tmp_path: Path
) -> None:
    found = search(Reranked(of=Fixed(), model=str(model), depth=2, weight=0.01), tmp_path, 2)
    assert [hit.id for hit in found] == sorted(IDS[:2], key=lambda key: -scores[key])


def test_one_hit_alone_stays(model: Path, tmp_path: Path) -> None:
    assert search(Reranked(of=Fixed(), model=str(model), depth=1, weight=0.5), tmp_path, 1)[0].id == IDS[0]


@pytest.mark.parametrize("k", [1, 2, 6])
def test_what_is_deeper_stays_behind_in_its_order(
    model: Path, scores: dict[str, float], tmp_path: Path, k: int
) -> None:
    found = search(Reranked(of=Fixed(), model=str(model), depth=3), tmp_path, k)
    expected = [*sorted(IDS[:3], key=lambda key: -scores[key]), *IDS[3:]]
    assert [hit.id for hit in found] == expected[:k]
    if k == 6:
        assert found[3].score == pytest.approx(min(scores[key] for key in IDS[:3]) - 1, abs=1e-4)
        assert found[3].score - found[4].score == pytest.approx(1)  # as far apart as before
        assert found[4].score == found[5].score


def test_equal_passages_tie_and_stand_in_descending_order_of_id(model: Path, tmp_path: Path) -> None:
    chunks = [Chunk(id=key, text="one two") for key in ("b", "a", "c")]
    found = search(Reranked(of=Fixed(ids=("b", "a", "c")), model=str(model)), tmp_path, 3, chunks)
    assert [hit.id for hit in found] == ["c", "b", "a"]
    assert len({hit.score for hit in found}) == 1


def test_no_hits_are_no_error(model: Path, tmp_path: Path) -> None:
    assert search(Reranked(of=Fixed(ids=()), model=str(model)), tmp_path, 3) == []
    searcher = Reranked(of=Fixed(), model=str(model)).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert searcher.search([], 3) == []


def test_cut_pairs_are_noted_beside_what_the_first_retriever_cut(model: Path, tmp_path: Path) -> None:
    reranked = Reranked(of=Fixed(), model=str(model), max_tokens=9)
    searcher = reranked.build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert searcher.notes == {"passages cut": 1}
    searcher.search([QUESTION], 3)
    cut = sum(
        len(chunk.text.split()) + len(("which", "red", "bird", "list", "CLS", "SEP", "SEP")) > 9 for chunk in CHUNKS
    )
    assert 0 < cut < len(CHUNKS)
    assert searcher.notes == {"passages cut": 1, "pairs of question and passage cut at 9 tokens": cut}


def test_progress_is_told(model: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    searcher = Reranked(of=Fixed(), model=str(model)).build(
        CHUNKS, cache=tmp_path, progress=lambda *step: told.append(step)
    )
    searcher.search([QUESTION, "a dog"], 3)
    assert [told[0], told[1], told[-1]] == [("indexing", 6, 6), ("loading the re-ranker", 0, 1), ("re-ranking", 12, 12)]


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    folder = tiny.tiny_bert(tmp_path / "bert")
    with pytest.raises(
        ModelError, match="no trained head of one output, so its order would be a random one; train one"
    ):
        Reranked(of=Fixed(), model=str(folder)).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)


def test_it_stands_in_a_recipe_around_others_and_inside(model: Path, tmp_path: Path) -> None:
    read = Retriever.read({"kind": "reranked", "of": {"kind": "hybrid", "of": ["bm25", "bm25"]}, "model": str(model)})
    assert (read.depth, read.of.kind, Retriever.read({"kind": read.kind, **read.model_dump()})) == (100, "hybrid", read)
    inside = Hybrid(of=(read, Fixed()))
    found = inside.build(CHUNKS, cache=tmp_path, progress=lambda *_: None).search(["red bird"], 6)
    assert {hit.id for hit in found[0]} == {*IDS}
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Retriever.read({"kind": "reranked", "of": "bm25", "model": "x", "depth": 0})
