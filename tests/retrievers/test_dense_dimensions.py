"""Search by the first numbers of each vector: what is found, what it costs, and what stays on the disk."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from torch import Tensor

from burnish.errors import ModelError
from burnish.models.encode import Encoder
from burnish.models.precision import chosen_dtype
from burnish.models.vectors import VectorFile
from burnish.records import Chunk
from burnish.retrievers import Hit
from burnish.retrievers.dense import Dense, DenseIndex
from tiny import WORDS, tiny_bert

CHUNKS = [Chunk(id=f"c{place}", text=" ".join(WORDS[place : place + 3])) for place in range(30)]
QUESTIONS = [" ".join(WORDS[place : place + 2]) for place in range(40)]
NOTE = "nearest passages missed by the first 8 of 32 dimensions, of 300 (the first 10 of each of 30 passages)"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bert(tmp_path_factory.mktemp("bert")))


def search(settings: dict[str, Any], cache: Path, *, k: int = 5) -> list[list[Hit]]:
    return dense_of(settings).build(CHUNKS, cache=cache, progress=lambda *_: None).search(QUESTIONS, k)


def dense_of(settings: dict[str, Any]) -> Dense:
    return Dense.model_validate(settings)


def cut(vectors: Tensor, count: int) -> Tensor:
    first = vectors[:, :count]
    return first / first.norm(dim=1, keepdim=True)


def by_hand(model: str, count: int) -> Tensor:
    encoder = Encoder.load(model, dtype=chosen_dtype())
    passages, _ = encoder.encode([chunk.text for chunk in CHUNKS], max_tokens=64)
    queries, _ = encoder.encode(QUESTIONS, max_tokens=64)
    return cut(queries, count) @ cut(passages, count).T


@pytest.mark.parametrize("count", [1, 8, 32])
def test_scores_are_cosines_of_the_first_numbers(count: int, model: str, tmp_path: Path) -> None:
    found = search({"model": model, "dimensions": count}, tmp_path, k=len(CHUNKS))
    for hits, scores in zip(found, by_hand(model, count), strict=True):
        by_id = dict(zip((chunk.id for chunk in CHUNKS), scores.tolist(), strict=True))
        assert {hit.id: hit.score for hit in hits} == pytest.approx(by_id, abs=1e-5)
        assert hits == sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)


def test_vectors_on_the_disk_stay_whole_and_serve_every_width(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search({"model": model}, tmp_path)
    [kept] = tmp_path.glob("*/*.safetensors")
    before = kept.read_bytes()
    assert VectorFile.open(kept).shape == (len(CHUNKS), 32)
    read: list[int] = []
    encode = Encoder.encode_ids

    def counting(self: Encoder, given: Any, **options: Any) -> Any:
        read.append(len(given))
        return encode(self, given, **options)

    monkeypatch.setattr(Encoder, "encode_ids", counting)
    search({"model": model, "dimensions": 8}, tmp_path)
    assert read == [len(QUESTIONS)]
    assert [*tmp_path.glob("*/*.safetensors")] == [kept]
    assert kept.read_bytes() == before


def test_a_note_says_what_the_first_numbers_miss_of_the_whole_width(model: str, tmp_path: Path) -> None:
    searcher = dense_of({"model": model, "dimensions": 8}).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert [*searcher.notes] == [NOTE]
    encoder = Encoder.load(model, dtype=chosen_dtype())
    vectors, _ = encoder.encode([chunk.text for chunk in CHUNKS], max_tokens=64)
    short, whole = cut(vectors, 8), cut(vectors, 32)
    ranks = [(part @ part.T).topk(10).indices.tolist() for part in (short, whole)]
    lost = sum(len({*theirs} - {*ours}) for ours, theirs in zip(*ranks, strict=True))
    assert searcher.notes[NOTE] == lost > 0
    searcher.search(QUESTIONS, 3)
    assert NOTE.replace("of 300", "of 400").replace("30 passages", "40 questions") in searcher.notes


def test_all_dimensions_are_no_news(model: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": model}
    plain = search(settings, tmp_path)
    whole = dense_of({**settings, "dimensions": 32}).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert whole.search(QUESTIONS, 5) == plain
    assert whole.notes == {}


@pytest.mark.parametrize("vectors", ["int8", "binary"])
def test_codes_of_the_first_numbers_are_searched_too(vectors: str, model: str, tmp_path: Path) -> None:
    exact = search({"model": model, "dimensions": 8}, tmp_path)
    settings = {"model": model, "dimensions": 8, "vectors": vectors, "rescore": 10}
    found = search(settings, tmp_path)
    for one, other in zip(found, exact, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)
    searcher = dense_of(settings).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert f"missed by the first 8 of 32 dimensions, {vectors} (rescore 10), of 300" in next(iter(searcher.notes))


def test_an_approximate_index_is_kept_for_each_width(model: str, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    for settings in ({}, {"dimensions": 8}, {"dimensions": 16}):
        exact = search({"model": model, **settings}, tmp_path, k=3)
        found = search({"model": model, "index": "hnsw", "rescore": 8, **settings}, tmp_path, k=3)
        assert [[hit.id for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in exact]
    assert len([*tmp_path.glob("*/hnsw-*"), *tmp_path.glob("*/first-*/hnsw-*")]) == 3


def test_an_index_that_changes_is_searched_by_the_first_numbers(model: str, tmp_path: Path) -> None:
    index = DenseIndex.open(tmp_path / "index", dense_of({"model": model, "dimensions": 8}))
    index.add(CHUNKS[:20])
    index.add(CHUNKS[20:])
    index.remove(["c3"])
    found = index.search(QUESTIONS, 5)
    kept = [chunk for chunk in CHUNKS if chunk.id != "c3"]
    built = dense_of({"model": model, "dimensions": 8}).build(kept, cache=tmp_path, progress=lambda *_: None)
    assert found == built.search(QUESTIONS, 5)
    assert dict(index.notes) == dict(built.notes)


def test_nothing_to_search_is_no_error(model: str, tmp_path: Path) -> None:
    searcher = dense_of({"model": model, "dimensions": 8}).build([], cache=tmp_path, progress=lambda *_: None)
    assert searcher.search(QUESTIONS, 5) == [[]] * len(QUESTIONS)
    assert searcher.notes == {}


def test_vectors_too_many_for_memory_are_cut_as_they_are_read(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = search({"model": model, "dimensions": 8}, tmp_path)
    monkeypatch.setattr("burnish.models.nearest.HELD", 0)
    assert search({"model": model, "dimensions": 8}, tmp_path) == held


def test_more_dimensions_than_the_model_has_are_refused(model: str, tmp_path: Path) -> None:
    many = dense_of({"model": model, "dimensions": 33})
    said = r"dimensions 33 are asked for, and vectors of this model have 32 numbers"
    with pytest.raises(ModelError, match=said):
        many.build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    with pytest.raises(ModelError, match=said):
        DenseIndex.open(tmp_path / "index", many)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        dense_of({"model": model, "dimensions": 0})
