from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_vectors_are_encoded_once_for_a_model_and_a_corpus(tmp_path: Path) -> None:
    one, other = (str(tiny_bert(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    cache, told = tmp_path / "cache", []
    first = search(Dense(model=one), cache, CHUNKS)
    [kept] = cache.iterdir()
    searcher = Dense(model=one).build(CHUNKS, cache=cache, progress=lambda what, *_: told.append(what))
    assert "encoding passages" not in told
    assert searcher.search(QUESTIONS, 5) == first
    assert [*cache.iterdir()] == [kept]
    search(Dense(model=other), cache, CHUNKS)
    search(Dense(model=one), cache, CHUNKS[1:])
    search(Dense(model=one, format=TextFormat(query_tokens=16, passage_tokens=5)), cache, CHUNKS)
    assert len([*cache.iterdir()]) == 4


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
    encode = Encoder.encode

    def counting(self: Encoder, texts: Sequence[str], **options: Any) -> Any:
        encoded.append(len(texts))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode", counting)
    with pytest.raises(KeyboardInterrupt):
        search(model, tmp_path / "cache", CHUNKS)
    done, encoded[:] = sum(encoded[:2]), [0, 0, 0]
    again = search(model, tmp_path / "cache", CHUNKS)
    assert (
        sum(encoded[:-1]) == len({(chunk.title, chunk.text) for chunk in CHUNKS}) - done
    )  # the last are the questions
    assert [[hit.id for hit in hits] for hits in again] == [[hit.id for hit in hits] for hits in whole]
