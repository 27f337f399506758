from pathlib import Path

import pytest
import torch
from sentence_transformers import MultiVectorEncoder

from burnish.models.late import LateEncoder
from burnish.models.late_folder import LateFormat
from burnish.models.quiet import quiet
from burnish.records import Chunk
from burnish.retrievers import Hit
from burnish.retrievers.bm25 import Bm25
from burnish.retrievers.late import Late
from tiny import WORDS, tiny_bert

CHUNKS = [
    Chunk(id=f"c{place}", title=word, text=f"{WORDS[place + 1]} {WORDS[place * 2]} {WORDS[40]}")
    for place, word in enumerate(WORDS[:30])
]
CHUNKS.append(CHUNKS[4].model_copy(update={"id": "copy of 4"}))
QUESTIONS = [" ".join(WORDS[4:9]), f"{WORDS[33]}  {WORDS[50]}\n{WORDS[51]}", WORDS[60]]
FORM = LateFormat(query_tokens=16, passage_tokens=16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a late-interaction model of eight dimensions."""
    folder = tmp_path_factory.mktemp("late")
    encoder = LateEncoder.load(str(tiny_bert(folder / "bert")), dtype=torch.float32)
    encoder.project(8, seed=0)
    encoder.read_by(FORM)
    encoder.save(folder / "late")
    return str(folder / "late")


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode as every machine does it, whatever suits this one."""
    monkeypatch.setattr("burnish.retrievers.late.chosen_dtype", lambda: torch.float32)


def search(late: Late, cache: Path, chunks: list[Chunk] = CHUNKS, k: int = 5) -> list[list[Hit]]:
    return late.build(chunks, cache=cache, progress=lambda *_: None).search(QUESTIONS, k)


def test_the_ranking_is_that_of_sentence_transformers(model: str, tmp_path: Path) -> None:
    with quiet():
        outside = MultiVectorEncoder(model, device="cpu")
    passages = outside.encode_document([FORM.passage(chunk.title, chunk.text) for chunk in CHUNKS])
    scores = outside.similarity(outside.encode_query([FORM.query(text) for text in QUESTIONS]), passages)
    found = search(Late(model=model), tmp_path, k=len(CHUNKS))
    for hits, row in zip(found, scores.tolist(), strict=True):
        by_id = dict(zip((chunk.id for chunk in CHUNKS), row, strict=True))
        assert {hit.id: hit.score for hit in hits} == pytest.approx(
            by_id, abs=5e-3
        )  # vectors are kept in half precision
        assert hits == sorted(hits, key=lambda hit: (hit.score, hit.id), reverse=True)


def test_a_search_returns_as_many_as_asked_for(model: str, tmp_path: Path) -> None:
    everything = search(Late(model=model), tmp_path, k=99)
    assert [len(hits) for hits in everything] == [len(CHUNKS)] * len(QUESTIONS)
    for k in (1, 2, 7):
        assert search(Late(model=model), tmp_path, k=k) == [hits[:k] for hits in everything]


def test_equal_passages_are_in_descending_order_of_id_whatever_theirs_was(model: str, tmp_path: Path) -> None:
    late = Late(model=model)
    found = search(late, tmp_path / "one")
    assert found == search(late, tmp_path / "two", CHUNKS[::-1])
    ids = [hit.id for hit in search(late, tmp_path / "one", k=99)[0]]
    assert ids.index("copy of 4") == ids.index("c4") - 1


def test_tokens_are_encoded_once_for_a_model_and_a_corpus(model: str, tmp_path: Path) -> None:
    told: list[str] = []
    first = search(Late(model=model), tmp_path)
    [kept] = tmp_path.iterdir()
    searcher = Late(model=model).build(CHUNKS, cache=tmp_path, progress=lambda what, *_: told.append(what))
    assert "encoding tokens" not in told
    assert searcher.search(QUESTIONS, 5) == first
    assert [*tmp_path.iterdir()] == [kept]
    search(Late(model=model), tmp_path, CHUNKS[1:])
    shorter = Late(model=model, format=FORM.model_copy(update={"passage_tokens": 5}))
    assert shorter.build(CHUNKS, cache=tmp_path, progress=lambda *_: None).notes == {"passages cut at 5 tokens": 30}
    assert len([*tmp_path.iterdir()]) == 3


def test_the_index_finds_what_the_exact_search_finds(model: str, tmp_path: Path) -> None:
    exact = search(Late(model=model), tmp_path)
    told: list[str] = []
    late = Late(model=model, exact_up_to=0, probes=16, depth=20)
    searcher = late.build(CHUNKS, cache=tmp_path, progress=lambda what, *_: told.append(what))
    assert "grouping tokens" in told
    found = searcher.search(QUESTIONS, 5)
    same = [len({hit.id for hit in a} & {hit.id for hit in b}) for a, b in zip(exact, found, strict=True)]
    assert sum(same) >= 13
    told.clear()
    again = late.build(CHUNKS, cache=tmp_path, progress=lambda what, *_: told.append(what))
    assert told == ["loading the late-interaction model"]
    assert again.search(QUESTIONS, 5) == found


def test_what_the_index_leaves_out_is_noted(model: str, tmp_path: Path) -> None:
    narrow = Late(model=model, exact_up_to=0, probes=1, depth=2)
    notes = narrow.build(CHUNKS, cache=tmp_path, progress=lambda *_: None).notes
    [(reason, count)] = notes.items()
    assert reason == "of the first 10 for each of 16 passages taken for questions, left out by the index"
    assert 128 <= count <= 160  # two candidates for ten places
    wide = Late(model=model, exact_up_to=0, probes=999, depth=999)
    assert wide.build(CHUNKS, cache=tmp_path, progress=lambda *_: None).notes == {}


def test_another_retrievers_first_passages_are_ranked_anew(model: str, tmp_path: Path) -> None:
    late = Late.model_validate({"model": model, "of": {"kind": "bm25"}, "depth": 6})
    of = Bm25().build(CHUNKS, cache=tmp_path, progress=lambda *_: None).search(QUESTIONS, 6)
    everything = search(Late(model=model), tmp_path, k=99)
    for hits, given, every in zip(search(late, tmp_path), of, everything, strict=True):
        ids = {hit.id for hit in given}
        expected = [hit for hit in every if hit.id in ids][:5]
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-4)


def test_a_model_of_mean_scores_gives_means(model: str, tmp_path: Path) -> None:
    form = FORM.model_copy(update={"mean": True})
    sums, means = (search(Late(model=model, format=f), tmp_path, k=3) for f in (FORM, form))
    tokens = [7, 5, 3]
    for summed, mean, count in zip(sums, means, tokens, strict=True):
        assert [hit.id for hit in mean] == [hit.id for hit in summed]
        assert [hit.score * count for hit in mean] == pytest.approx([hit.score for hit in summed], rel=1e-4)


def test_no_questions_or_passages_have_no_hits(model: str, tmp_path: Path) -> None:
    assert Late(model=model).build(CHUNKS, cache=tmp_path, progress=lambda *_: None).search([], 5) == []
    assert search(Late(model=model), tmp_path, []) == [[], [], []]
