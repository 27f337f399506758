from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from burnish.models.encode import Encoder
from burnish.models.precision import chosen_dtype
from burnish.records import Chunk
from burnish.retrievers import Hit, dense
from burnish.retrievers.dense import Dense
from burnish.text import TextFormat
from tiny import WORDS, tiny_bert

CHUNKS = [
    Chunk(id=f"c{place}", title=word, text=f"{WORDS[place + 1]} {WORDS[place * 2]} {WORDS[40]}")
    for place, word in enumerate(WORDS[:30])
]
CHUNKS.append(CHUNKS[4].model_copy(update={"id": "copy of 4"}))
QUESTIONS = [" ".join(WORDS[4:9]), f"{WORDS[33]}  {WORDS[50]}\n{WORDS[51]}", WORDS[60]]
PLAIN = TextFormat(query_tokens=16, passage_tokens=16)
FORM = PLAIN.model_copy(update={"query_prefix": f"{WORDS[62]} ", "passage_prefix": f"{WORDS[63]} "})


def search(dense: Dense, cache: Path, chunks: list[Chunk], k: int = 5) -> list[list[Hit]]:
    return dense.build(chunks, cache=cache, progress=lambda *_: None).search(QUESTIONS, k)


def test_the_ranking_is_that_of_all_dot_products(tmp_path: Path) -> None:
    name = str(tiny_bert(tmp_path / "m"))
    encoder = Encoder.load(name, dtype=chosen_dtype())
    passages, _ = encoder.encode([FORM.passage(chunk.title, chunk.text) for chunk in CHUNKS], max_tokens=16)
    queries, _ = encoder.encode([FORM.query(text) for text in QUESTIONS], max_tokens=16)
    found = search(Dense(model=name, format=FORM), tmp_path / "cache", CHUNKS, k=len(CHUNKS))
    for hits, scores in zip(found, queries @ passages.T, strict=True):
        by_id = dict(zip((chunk.id for chunk in CHUNKS), scores.tolist(), strict=True))
        assert {hit.id: hit.score for hit in hits} == pytest.approx(by_id, abs=1e-5)
        assert hits == sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)


def test_a_search_returns_as_many_as_asked_for(tmp_path: Path) -> None:
    dense = Dense(model=str(tiny_bert(tmp_path / "m")))
    everything = search(dense, tmp_path / "cache", CHUNKS, k=99)
    assert [len(hits) for hits in everything] == [len(CHUNKS)] * len(QUESTIONS)
    for k in (1, 2, 7):
        assert search(dense, tmp_path / "cache", CHUNKS, k=k) == [hits[:k] for hits in everything]


def test_equal_passages_are_in_descending_order_of_id_whatever_theirs_was(tmp_path: Path) -> None:
    dense = Dense(model=str(tiny_bert(tmp_path / "m")))
    found = search(dense, tmp_path / "one", CHUNKS)
    assert found == search(dense, tmp_path / "two", CHUNKS[::-1])
    ids = [hit.id for hit in search(dense, tmp_path / "one", CHUNKS, k=99)[0]]
    assert ids.index("copy of 4") == ids.index("c4") - 1


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """Collect the texts that are encoded, questions as well."""
    texts: list[Sequence[int]] = []
    encode = Encoder.encode_ids

    def collecting(self: Encoder, given: Sequence[Sequence[int]], **options: Any) -> Any:
        texts.extend(given)
        return encode(self, given, **options)

    monkeypatch.setattr(Encoder, "encode_ids", collecting)
    return texts


def test_a_text_is_encoded_once_for_a_model_whichever_corpus_it_is_in(
    tmp_path: Path, encoded: list[Sequence[int]]
) -> None:
    one, other = (str(tiny_bert(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    cache = tmp_path / "cache"

    def new(dense: Dense, chunks: list[Chunk]) -> int:
        encoded.clear()
        found = search(dense, cache, chunks)
        count = len(encoded) - len(QUESTIONS)
        assert [[hit.id for hit in hits] for hits in found] == ids(
            search(dense, tmp_path / "anew" / str(count), chunks)
        )
        return count

    assert new(Dense(model=one), CHUNKS[:20]) == 20
    assert new(Dense(model=one), CHUNKS[:20]) == 0
    assert new(Dense(model=one), CHUNKS[3:]) == len(CHUNKS) - 20 - 1  # one is a copy of another
    assert new(Dense(model=one), CHUNKS[::-1]) == 0
    assert len([*cache.iterdir()]) == 1
    assert new(Dense(model=other), CHUNKS[:8]) == 8
    assert new(Dense(model=one, format=TextFormat(query_tokens=16, passage_tokens=5)), CHUNKS[:9]) == 9
    assert len([*cache.iterdir()]) == 3


def test_cut_passages_are_counted_in_every_corpus_that_holds_them(tmp_path: Path) -> None:
    dense = Dense(model=str(tiny_bert(tmp_path / "m")), format=TextFormat(query_tokens=16, passage_tokens=5))
    chunks = [Chunk(id=str(place), text=" ".join(WORDS[place : place + place + 1])) for place in range(7)]
    for part, cut in ((chunks, 4), (chunks[:4], 1), (chunks[2:6], 3), (chunks[:3], 0)):
        searcher = dense.build(part, cache=tmp_path / "cache", progress=lambda *_: None)
        assert searcher.notes == ({"passages cut at 5 tokens": cut} if cut else {})


def ids(found: list[list[Hit]]) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in found]


@pytest.mark.parametrize("vectors", ["int8", "binary"])
def test_codes_with_enough_candidates_find_what_fp32_finds(tmp_path: Path, vectors: str) -> None:
    name = str(tiny_bert(tmp_path / "m"))
    exact = search(Dense(model=name), tmp_path / "cache", CHUNKS)
    coded = Dense.model_validate({"model": name, "vectors": vectors, "rescore": 10})
    found = search(coded, tmp_path / "cache", CHUNKS)
    assert ids(found) == ids(exact)
    for one, other in zip(found, exact, strict=True):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)


def test_what_codes_miss_is_noted_for_passages_and_then_for_questions(tmp_path: Path) -> None:
    coded = Dense(model=str(tiny_bert(tmp_path / "m")), vectors="binary", rescore=1)
    searcher = coded.build(CHUNKS, cache=tmp_path / "cache", progress=lambda *_: None)
    told: list[str] = []
    again = coded.build(CHUNKS, cache=tmp_path / "cache", progress=lambda what, *_: told.append(what))
    assert again.notes == searcher.notes
    assert not any(what.startswith("checking") for what in told)
    [(note, missed)] = searcher.notes.items()
    assert note == "nearest passages missed by binary (rescore 1), of 300 (the first 10 of each of 30 passages)"
    assert 0 < missed < 150
    searcher.search(QUESTIONS, 5)
    assert len(searcher.notes) == 1  # too few to pay for
    searcher.search(QUESTIONS * 11, 5)
    assert (
        "nearest passages missed by binary (rescore 1), of 330 (the first 10 of each of 33 questions)" in searcher.notes
    )


def test_a_larger_corpus_is_searched_by_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    name = str(tiny_bert(tmp_path / "m"))
    exact = search(Dense(model=name), tmp_path / "cache", CHUNKS)
    monkeypatch.setattr(dense, "EXACT_UP_TO", 20)
    searcher = Dense(model=name).build(CHUNKS, cache=tmp_path / "cache", progress=lambda *_: None)
    assert searcher.notes == {
        "nearest passages missed by hnsw fp32 (rescore 4), of 300 (the first 10 of each of 30 passages)": 0
    }
    assert ids(searcher.search(QUESTIONS, 5)) == ids(exact)
    whole = Dense(model=name, index="exact").build(CHUNKS, cache=tmp_path / "cache", progress=lambda *_: None)
    assert whole.search(QUESTIONS, 5) == exact
    monkeypatch.setattr(dense, "is_installed", lambda: False)
    without = Dense(model=name).build(CHUNKS, cache=tmp_path / "cache", progress=lambda *_: None)
    assert without.search(QUESTIONS, 5) == exact
    assert without.notes == {
        "passages searched exactly, since faiss is not installed (`pip install 'burnish[faiss]'`)": len(CHUNKS) - 1
    }


def test_bits_are_not_put_into_a_graph() -> None:
    with pytest.raises(ValidationError, match=r"`index: hnsw` holds vectors as fp32 or int8; .* `index: exact`"):
        Dense(model="any", vectors="binary", index="hnsw")


def test_a_format_in_the_recipe_outdoes_the_models(tmp_path: Path) -> None:
    encoder = Encoder.load(str(tiny_bert(tmp_path / "m")), dtype=torch.float32)
    encoder.format = FORM
    encoder.save(tmp_path / "saved")
    own = search(Dense(model=str(tmp_path / "saved")), tmp_path / "cache", CHUNKS)
    same = search(Dense(model=str(tmp_path / "m"), format=FORM), tmp_path / "cache", CHUNKS)
    plain = search(
        Dense(model=str(tmp_path / "saved"), format=PLAIN),
        tmp_path / "cache",
        CHUNKS,
    )
    assert [[hit.id for hit in hits] for hits in own] == [[hit.id for hit in hits] for hits in same]
    assert own != plain


def test_no_questions_have_no_hits(tmp_path: Path) -> None:
    searcher = Dense(model=str(tiny_bert(tmp_path / "m"))).build(CHUNKS, cache=tmp_path, progress=lambda *_: None)
    assert searcher.search([], 5) == []


def test_encoding_that_was_killed_goes_on_after_the_last_whole_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Dense(model=str(tiny_bert(tmp_path / "m")))
    whole = search(model, tmp_path / "whole", CHUNKS)
    monkeypatch.setattr(dense, "BLOCK", 2)
    encoded: list[int] = []
    encode = Encoder.encode_ids

    def counting(self: Encoder, texts: Sequence[Sequence[int]], **options: Any) -> Any:
        encoded.append(len(texts))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode_ids", counting)
    with pytest.raises(KeyboardInterrupt):
        search(model, tmp_path / "cache", CHUNKS)
    done, encoded[:] = sum(encoded[:2]), [0, 0, 0]
    again = search(model, tmp_path / "cache", CHUNKS)
    assert (
        sum(encoded[:-1]) == len({(chunk.title, chunk.text) for chunk in CHUNKS}) - done
    )  # the last are the questions
    assert [[hit.id for hit in hits] for hits in again] == [[hit.id for hit in hits] for hits in whole]
