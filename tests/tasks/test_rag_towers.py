"""Both towers of a retriever that trains with a generator: fresh scores, and vectors that are made anew."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from torch import Tensor

from burnish.losses.pdist import Pdist
from burnish.methods.full import Full
from burnish.tasks import Built, Task
from burnish.tasks.rag import Rag
from rag_data import CHUNKS, ROWS, write_halves


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with both halves, passages and a cache of its own."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return write_halves(tmp_path)


def begun(place: Path, retriever: str, **settings: Any) -> tuple[Rag, Built, Any, Any]:
    """Return the task, what is built, the model, and what makes a step's questions of these four."""
    named = {"passages": str(place / "passages.jsonl"), "retriever": str(place / retriever), "top_k": 3}
    more = {"query_tokens": 16, "passage_tokens": 16, "towers": "both", "trains": "retriever"}
    task = Task.read({"kind": "rag", **named, **more, **settings})
    assert isinstance(task, Rag)
    built = task.build(str(place / "llama"))
    model = task.adapted_by(Full()).apply(built.model)
    items = task.encode(ROWS[:4], built).items
    task.prepare(model, items, cache=place / "cache", progress=lambda *_: None)
    task.begin(model)
    sampler = task.sampler(model, built, items, seed=0)
    return task, built, model, lambda step: list(sampler(step, range(4)))


def moved(model: Any) -> None:
    """Move every weight of the retriever a little."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.retriever.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=draw))


def vectors(model: Any) -> Tensor:
    tower = model.retriever.passages
    form = tower.format
    found, _ = tower.encode([form.passage("", chunk.text) for chunk in CHUNKS], max_tokens=form.passage_tokens)
    return found


@pytest.mark.parametrize("pass_tokens", [1, 4096])
@pytest.mark.parametrize("retriever", ["bert", "towers"])
def test_the_gradient_is_that_of_fresh_vectors_on_both_sides(place: Path, retriever: str, pass_tokens: int) -> None:
    task, _, model, step = begun(place, retriever, pass_tokens=pass_tokens)
    moved(model)  # the vectors that are searched are not those of the towers any more
    found = step(1)
    total = task.total_loss(model, task.collate(found))
    total.backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    towers, expected = model.retriever, torch.zeros(())
    chunks = {chunk.id: chunk.text for chunk in CHUNKS}
    for one in found:
        read = [towers.passages.format.passage("", chunks[key]) for key in one.ids]
        ids, _ = towers.passages.tokenize(read, max_tokens=16)
        scores = towers.passages.embed(list(ids)) @ towers.queries.embed([one.item.query])[0]
        there, tokens = torch.ones(1, 3, dtype=torch.bool), torch.tensor([one.signal.shape[1]])
        expected = expected + Pdist()(scores[None], there, one.signal[None], tokens)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    names = {name.split(".")[1] for name in ours}
    assert names == ({"queries", "passages"} if retriever == "towers" else {"transformer"})
    size = max(gradient.abs().max().item() for gradient in ours.values())
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            assert (ours[name] - weight.grad).abs().max().item() <= 2e-5 * size, name


@pytest.mark.parametrize("retriever", ["bert", "towers"])
def test_without_refresh_the_first_vectors_are_searched(place: Path, retriever: str) -> None:
    task, _, model, step = begun(place, retriever)
    [kept] = task.begin(model)
    before = kept.clone()
    moved(model)
    step(50)
    assert torch.equal(kept, before)


def test_every_so_many_steps_all_vectors_are_those_of_the_tower(place: Path) -> None:
    task, _, model, step = begun(place, "towers", refresh={"every": 3, "look_every": 100})
    [kept] = task.begin(model)
    before = kept.clone()
    moved(model)
    step(2)
    assert torch.equal(kept, before)
    found = step(3)
    torch.testing.assert_close(kept, vectors(model), rtol=1e-6, atol=1e-6)
    for one in found:
        queries = model.retriever.queries.encode_ids([one.item.query])[0]
        assert list(one.places) == (kept @ queries).topk(3).indices.tolist()
    told = dict(task.facts(found, [batch_of(task, model, found)]))
    assert told["index anew"] == (4, 4)
    assert told["index cosine"] == (0, 0)


def batch_of(task: Rag, model: Any, found: Any) -> Any:
    batch = task.collate(found)
    task.total_loss(model, batch)
    return batch


def test_drift_is_told_and_past_its_limit_all_vectors_are_made_anew(place: Path) -> None:
    task, _, model, step = begun(place, "towers", refresh={"drift": 1e-3, "look_every": 2, "sample": 5})
    [kept] = task.begin(model)
    before = kept.clone()
    facts = task.facts([], [batch_of(task, model, step(2))])
    assert facts["index anew"][0] == 0
    assert facts["index cosine"] == (pytest.approx(4, abs=1e-5), 4)
    moved(model)
    step(3)
    assert torch.equal(kept, before)
    facts = task.facts([], [batch_of(task, model, step(4))])
    assert facts["index anew"] == (4, 4)
    assert facts["index cosine"][0] < 4 * (1 - 1e-3)
    torch.testing.assert_close(kept, vectors(model), rtol=1e-6, atol=1e-6)


def test_a_search_that_looks_further_ranks_by_fresh_vectors(place: Path) -> None:
    _, _, model, step = begun(place, "towers", refresh={"rerank": len(CHUNKS)})
    moved(model)
    fresh = vectors(model)
    for one in step(1):
        scores = fresh @ model.retriever.queries.encode_ids([one.item.query])[0]
        assert list(one.places) == scores.topk(3).indices.tolist()


def test_answers_are_scored_by_passages_as_they_are_read_now(place: Path) -> None:
    task, built, model, step = begun(place, "towers", refresh={"look_every": 100})
    asked = {"reads": "answers", "progress": lambda *_: None}
    moved(model)
    step(1)
    model.eval()
    folder = place / "saved"
    folder.mkdir()
    task.save(model, built, folder)
    again = task.build(str(folder))
    assert task.predictions(model, built, ROWS, **asked) == task.predictions(again.model, again, ROWS, **asked)


@pytest.mark.parametrize("retriever", ["bert", "towers"])
def test_it_is_saved_as_what_it_was(place: Path, retriever: str) -> None:
    task, built, model, _ = begun(place, retriever)
    moved(model)
    folder = place / "saved"
    folder.mkdir()
    task.save(model, built, folder)
    theirs = SentenceTransformer(str(folder / "retriever"))
    said = torch.tensor(theirs.encode_document([chunk.text for chunk in CHUNKS]))
    torch.testing.assert_close(vectors(model), said, rtol=1e-5, atol=1e-5)


def test_settings_that_say_nothing_are_refused(place: Path) -> None:
    for settings, words in (
        ({"towers": "queries", "refresh": {"every": 3}}, "tower stands still"),
        ({"refresh": {"every": 3, "drift": 0.1}}, "keep one of them"),
        ({"refresh": {"rerank": 2}}, r"2 passages are fewer than top_k \(3\)"),
        ({"trains": "retriever", "schedule": "alternating"}, "retriever alone is trained"),
    ):
        with pytest.raises(ValidationError, match=words):
            begun(place, "bert", **settings)
