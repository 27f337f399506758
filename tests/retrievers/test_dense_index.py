from pathlib import Path
from typing import Any

import pytest

from burnish.errors import DataError, ModelError, RunError
from burnish.models.encode import Encoder
from burnish.records import Chunk
from burnish.retrievers import Hit
from burnish.retrievers.dense import Dense, DenseIndex
from burnish.run import locked
from burnish.text import TextFormat
from tiny import WORDS, tiny_bert

CHUNKS = [
    Chunk(id=f"c{place:02}", title=word, text=f"{WORDS[place + 1]} {WORDS[40]}")
    for place, word in enumerate(WORDS[:40])
]
QUESTIONS = [" ".join(WORDS[4:9]), WORDS[20], WORDS[60]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bert(tmp_path_factory.mktemp("models") / "m"))


def anew(dense: Dense, folder: Path, chunks: list[Chunk]) -> list[list[Hit]]:
    return dense.build(chunks, cache=folder, progress=lambda *_: None).search(QUESTIONS, 12)


def same(found: list[list[Hit]], expected: list[list[Hit]]) -> None:
    assert [[hit.id for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in expected]
    for one, other in zip(found, expected, strict=True):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"vectors": "int8"}, {"vectors": "binary", "rescore": 8}, {"index": "hnsw"}])
def test_an_index_that_grew_and_shrank_equals_one_built_anew(
    tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    if "index" in settings:
        pytest.importorskip("faiss")
    dense = Dense.model_validate({"model": model, **settings})
    index = DenseIndex.open(tmp_path / "index", dense)
    assert index.search(QUESTIONS, 5) == [[], [], []]
    changed = CHUNKS[12].model_copy(update={"text": WORDS[50]})
    copy = CHUNKS[7].model_copy(update={"id": "copy"})
    index.add(CHUNKS[10:])
    index.add([*CHUNKS[:10], changed, copy])
    index.remove(["c03", "c25"])
    kept = [chunk for chunk in CHUNKS if chunk.id not in ("c03", "c12", "c25")] + [changed, copy]
    expected = anew(dense, tmp_path / "anew", kept)
    same(index.search(QUESTIONS, 12), expected)
    again = DenseIndex.open(tmp_path / "index", dense)
    assert again.ids == index.ids == sorted(chunk.id for chunk in kept)
    same(again.search(QUESTIONS, 12), expected)
    index.add([CHUNKS[3]])
    index.remove(["copy"])
    same(index.search(QUESTIONS, 12), anew(dense, tmp_path / "anew", [*kept[:-1], CHUNKS[3]]))


def test_only_new_texts_are_encoded(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = Encoder.encode_ids

    def counting(self: Encoder, texts: Any, **options: Any) -> Any:
        encoded.append(len(texts))
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "encode_ids", counting)
    index = DenseIndex.open(tmp_path, Dense(model=model))
    index.add(CHUNKS[:30])
    index.remove(["c01", "c02"])
    index.add(CHUNKS[:33])
    index.add(CHUNKS)
    assert encoded == [30, 3, 7]


def test_an_index_of_another_model_is_refused(tmp_path: Path, model: str) -> None:
    DenseIndex.open(tmp_path / "index", Dense(model=model)).add(CHUNKS[:2])
    other = str(tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(ModelError, match=rf"made with {model} \(\w{{16}}\), and not with {other} as it is now"):
        DenseIndex.open(tmp_path / "index", Dense(model=other))
    with pytest.raises(ModelError, match="weights or text format differ"):
        DenseIndex.open(tmp_path / "index", Dense(model=model, format=TextFormat(passage_prefix="read: ")))


def test_what_is_not_there_cannot_be_removed(tmp_path: Path, model: str) -> None:
    index = DenseIndex.open(tmp_path, Dense(model=model))
    index.add(CHUNKS[:5])
    with pytest.raises(DataError, match=r"no passage 'C04' stands in this index\. Did you mean 'c04'\?"):
        index.remove(["c01", "C04"])
    assert index.ids == ["c00", "c01", "c02", "c03", "c04"]


def test_one_process_changes_an_index_at_a_time_and_nothing_is_lost(tmp_path: Path, model: str) -> None:
    one, other = (DenseIndex.open(tmp_path, Dense(model=model)) for _ in range(2))
    one.add(CHUNKS[:4])
    other.add(CHUNKS[4:6])
    other.remove(["c00"])
    assert other.ids == DenseIndex.open(tmp_path, Dense(model=model)).ids == ["c01", "c02", "c03", "c04", "c05"]
    same(other.search(QUESTIONS, 12), anew(Dense(model=model), tmp_path / "anew", CHUNKS[1:6]))
    with locked(tmp_path), pytest.raises(RunError, match="is at work in this folder"):
        one.add(CHUNKS)


def test_notes_tell_what_the_search_misses(tmp_path: Path, model: str) -> None:
    index = DenseIndex.open(tmp_path, Dense(model=model, vectors="int8"))
    index.add(CHUNKS)
    assert [*index.notes] == [
        "nearest passages missed by int8 (rescore 4), of 400 (the first 10 of each of 40 passages)"
    ]
    assert [*index.notes.values()] == [0]
