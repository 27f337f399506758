from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.losses.contrastive import Contrastive
from burnish.records import Pair
from burnish.tasks import Built
from burnish.tasks.retrieve import Retrieve

TASK = Retrieve(query_tokens=16, passage_tokens=24)


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return TASK.build(str(tiny.tiny_bert(tmp_path / "bert")))


def pair(name: str, query: str, positives: list[str], negatives: list[str] | None = None) -> Pair:
    return Pair(id=name, query=query, positives=tuple(positives), negatives=tuple(negatives or []))


def test_the_loss_is_that_of_the_scores_of_all_queries_and_passages(built: Built):
    rows = tiny.pairs(6)
    encoder: Any = built.model
    passages = [text for row in rows for text in (*row.positives, *row.negatives)]
    queries, _ = encoder.encode([row.query for row in rows], max_tokens=16)
    found, _ = encoder.encode(passages, max_tokens=24)
    positive = torch.zeros(6, 12, dtype=torch.bool)
    positive[range(6), range(0, 12, 2)] = True
    expected = Contrastive()(queries @ found.T, positive)
    batch = TASK.collate(TASK.encode(rows, built).items)
    with torch.no_grad():
        loss = TASK.total_loss(built.model, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert TASK.count(batch) == 6


def test_how_many_tokens_a_pass_holds_does_not_change_loss_or_gradient(built: Built):
    items = TASK.encode(tiny.pairs(6), built).items
    results = []
    for tokens in (1, 100, 10_000):
        built.model.zero_grad()
        task = TASK.model_copy(update={"pass_tokens": tokens})
        loss = task.total_loss(built.model, task.collate(items))
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in built.model.parameters() if weight.grad is not None])
        results.append((loss.item(), gradient))
    for loss_value, gradient in results[1:]:
        assert loss_value == pytest.approx(results[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-3, atol=1e-4)


def test_a_passage_that_two_queries_share_is_a_positive_of_both(built: Built):
    rows = [pair("a", "red", ["one two"], ["three"]), pair("b", "blue", ["one two", "four"], ["five"])]
    batch = TASK.collate(TASK.encode(rows, built).items)
    assert batch.candidates_rc.tolist() == [[0, 1, 0], [0, 2, 3]]
    assert batch.positive_rc.tolist() == [[True, False, False], [True, True, False]]
    assert batch.negative_rc.tolist() == [[False, True, False], [False, False, True]]
    assert batch.known.tolist() == [[0, 0], [1, 0], [1, 2]]
    assert len(batch.passages) == 4


def test_a_negative_that_reads_like_a_positive_is_none(built: Built):
    rows = [pair("a", "red", ["one two"], ["one   two", "three"])]
    [item] = TASK.encode(rows, built).items
    assert len(item.negatives) == 1


def test_rows_with_the_same_query_share_their_positives(built: Built):
    rows = [
        pair("a", "red", ["one two"], ["four", "three"]),
        pair("b", "red", ["three"], ["five"]),
        pair("c", "blue", ["six"], ["three"]),
    ]
    encoded = TASK.encode(rows, built)
    assert [len(item.negatives) for item in encoded.items] == [1, 1, 1]
    assert encoded.items[0].known == encoded.items[1].positives
    [note] = encoded.notes.items()
    assert note == ("negatives left out, since they answer the query by another row or are the query itself", 1)
    batch = TASK.collate(encoded.items)
    assert batch.known.tolist() == [[0, 0], [0, 2], [1, 2], [1, 0], [2, 4]]


def test_a_passage_that_says_what_the_query_says_is_not_wrong(built: Built):
    task = TASK.model_copy(update={"query_prefix": "question ", "passage_prefix": "passage "})
    rows = [pair("a", "red cat", ["one two"], ["Red  cat!", "three"]), pair("b", "blue", ["red cat"])]
    built = task.build(built.model.transformer.config.name_or_path)  # type: ignore[union-attr]
    [first, second] = task.encode(rows, built).items
    assert len(first.negatives) == 1
    assert second.positives[0] in first.known


def test_a_passage_known_by_another_row_costs_nothing(built: Built):
    twins = [pair("a", "red", ["one two"]), pair("b", "red", ["three"])]
    with torch.no_grad():
        assert TASK.total_loss(built.model, TASK.collate(TASK.encode(twins, built).items)).item() == 0
        others = TASK.encode([pair("a", "red", ["one two"]), pair("b", "blue", ["three"])], built)
        assert TASK.total_loss(built.model, TASK.collate(others.items)).item() > 0


def test_cut_texts_are_counted_once(built: Built):
    long = " ".join(["one"] * 40)
    rows = [pair("a", "red", [long]), pair("b", long, [long], ["three"])]
    encoded = TASK.encode(rows, built)
    assert encoded.notes == {"queries cut at the end": 1, "passages cut at the end": 1}
    assert [len(item.query) for item in encoded.items] == [3, 16]
    assert len(encoded.items[0].positives[0]) == 24


def test_texts_that_fit_leave_no_note(built: Built):
    assert TASK.encode(tiny.pairs(4), built).notes == {}


def test_the_audit_shows_what_the_towers_read(built: Built):
    lines = TASK.audit(TASK.encode([pair("a", "red cat", ["one two"], ["three"])], built).items, built)
    assert lines == ["query: [CLS] red cat [SEP]", "positive: [CLS] one two [SEP]", "negative: [CLS] three [SEP]"]


def test_the_dev_score_is_perfect_where_each_query_is_its_passage(built: Built):
    rows = [pair(word, word, [word]) for word in ("red", "green", "blue", "cat", "dog")]
    with torch.no_grad():
        assert TASK.dev_score(built.model, built, rows) == pytest.approx(1.0)
    assert TASK.dev_label == "nDCG@10"


def test_the_text_lengths_of_the_task_are_saved_with_the_model(built: Built, tmp_path: Path):
    TASK.save(built.model, built, tmp_path / "model")
    again: Any = Retrieve().build(str(tmp_path / "bert")).model
    kept = type(again).load(str(tmp_path / "model"), dtype=torch.float32).format
    assert (kept.query_tokens, kept.passage_tokens) == (16, 24)


def test_a_learned_temperature_starts_where_the_recipe_has_it(tmp_path: Path):
    task = Retrieve(loss=Contrastive(temperature=0.1, learn="temperature"), query_tokens=16, passage_tokens=24)
    learned = task.build(str(tiny.tiny_bert(tmp_path / "bert")))
    assert learned.fresh == ("log_scale",)
    fixed = task.model_copy(update={"loss": Contrastive(temperature=0.1)})
    batch = task.collate(task.encode(tiny.pairs(4), learned).items)
    with torch.no_grad():
        plain = fixed.build(str(tmp_path / "bert"))
        expected = fixed.total_loss(plain.model, batch).item()
        assert task.total_loss(learned.model, batch).item() == pytest.approx(expected, rel=1e-5)
