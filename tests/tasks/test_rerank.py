"""Re-ranking: values and gradients of sentence-transformers' losses, micro-batches, rows, metrics, saving."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import CrossEncoder as Theirs
from sentence_transformers.cross_encoder import losses
from torch import Tensor, nn

import tiny
from burnish.errors import DataError
from burnish.models.cross import CrossEncoder
from burnish.models.quiet import quiet
from burnish.records import Pair
from burnish.tasks import Built, Task
from burnish.tasks.rerank import Rerank
from learn import check_micro_batches, learn, typed_bert

LOSSES: list[Any] = [
    "binary",
    {"kind": "binary", "positive_weights": "balanced"},
    "listwise",
    {"kind": "listwise", "target": "listnet"},
    "margin_mse",
    {"kind": "distill", "temperature": 1.0},
]


def rerank(**settings: Any) -> Rerank:
    found: Rerank = Task.read({"kind": "rerank", "max_tokens": 32, **settings})
    return found


def row(name: str, positives: list[str], negatives: list[str], scores: tuple[float, ...] = ()) -> Pair:
    return Pair(id=name, query="red cat", positives=tuple(positives), negatives=tuple(negatives), scores=scores)


def rows(count: int = 6) -> list[Pair]:
    """Return rows of one positive and two negatives, with a teacher's scores."""
    words = tiny.WORDS
    return [
        Pair(
            id=f"row{n}",
            query=" ".join(words[n : n + 2]),
            positives=(" ".join(words[n : 2 * n + 3]),),
            negatives=(words[n + 20], " ".join(words[n + 10 : n + 14])),
            scores=(3.0 + n, 0.5 * n, -1.0),
        )
        for n in range(count)
    ]


def uneven() -> list[Pair]:
    """Return rows with different numbers of positives and negatives."""
    return [
        *rows(3),
        row("two", ["one two", "is not"], ["dog"], (2.0, 1.5, -3.0)),
        row("many", ["blue"], ["dog", "fish", "bird", "four five"], (1.0, 0.0, 0.5, -1.0, -2.0)),
        row("three", ["one", "two", "three four"], ["five", "six"], (4.0, 2.0, 3.0, 1.0, 0.0)),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return typed_bert(tmp_path / "bert")


@pytest.fixture
def built(folder: Path) -> Built:
    return rerank().build(str(folder))


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def theirs(kind: str, model: Theirs) -> Tensor:
    """Return sentence-transformers' loss of the six rows."""
    found = rows()
    queries = [one.query for one in found]
    columns = [[one.positives[0] for one in found], *([one.negatives[n] for one in found] for n in range(2))]
    if kind == "binary":
        texts = [text for column in columns for text in column]
        return losses.BinaryCrossEntropyLoss(model)([queries * 3, texts], torch.tensor([1] * 6 + [0] * 12))
    if kind == "balanced":
        texts = [text for column in columns for text in column]
        weighed = losses.BinaryCrossEntropyLoss(model, pos_weight=torch.tensor(2.0))
        return weighed([queries * 3, texts], torch.tensor([1] * 6 + [0] * 12))
    if kind == "listnet":
        texts = [[*one.positives, *one.negatives] for one in found]
        return losses.ListNetLoss(model)([queries, texts], [torch.tensor([1.0, 0, 0])] * 6)
    if kind == "margin_mse":
        labels = [torch.tensor(one.scores) for one in found]
        return losses.MarginMSELoss(model)([queries, *columns], labels)
    each = losses.MultipleNegativesRankingLoss(model, scale=1.0, activation_fn=None)
    alone = [each([[query], *([text] for text in texts)], torch.zeros(0)) for query, *texts in zip(queries, *columns)]  # noqa: B905
    return torch.stack(alone).mean()


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("binary", "binary"),
        ("balanced", {"kind": "binary", "positive_weights": "balanced"}),
        ("balanced", {"kind": "binary", "positive_weights": [2.0]}),
        ("listnet", {"kind": "listwise", "target": "listnet"}),
        ("margin_mse", "margin_mse"),
        ("each", "listwise"),
    ],
)
def test_value_and_gradient_are_those_of_sentence_transformers(
    kind: str, loss: Any, built: Built, tmp_path: Path
) -> None:
    task = rerank(loss=loss)
    task.save(built.model, built, tmp_path / "saved")
    with quiet():
        model = Theirs(str(tmp_path / "saved"), device="cpu").eval()
    value = theirs(kind, model)
    assert model.model is not None
    expected = gradients(model.model, value)
    batch = task.collate(task.encode(rows(), built).items)
    found = task.total_loss(built.model, batch) / task.count(batch)
    assert found.item() == pytest.approx(value.item(), rel=1e-5)
    ours = gradients(built.model, found)
    assert ours.keys() == expected.keys()
    largest = max(part.abs().max() for part in expected.values())
    assert all((ours[name] - expected[name]).abs().max() <= 1e-5 * max(largest, 1) for name in ours)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_micro_batches_and_passes_do_not_change_loss_and_gradient(loss: Any, built: Built) -> None:
    task = rerank(loss=loss)
    check_micro_batches(task, built, uneven())
    batch = task.collate(task.encode(uneven(), built).items)
    whole = task.total_loss(built.model, batch).item()
    for tokens in (1, 40):
        other = task.model_copy(update={"pass_tokens": tokens})
        assert other.total_loss(built.model, batch).item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_few_rows_are_learned(loss: Any, tmp_path: Path) -> None:
    task = rerank(loss=loss)
    made = task.build(str(tiny.tiny_bert(tmp_path / "base")))
    found = learn(task, made, rows(4), tmp_path, steps=16, rate=3e-3)
    assert found[-1] < found[0]
    if loss in ("binary", "listwise"):
        with torch.no_grad():
            assert task.dev_score(made.model, made, rows(4)) == 1.0


def test_units_are_pairs_where_each_stands_for_itself_and_queries_elsewhere(built: Built) -> None:
    for loss, units in (("binary", 9), ("listwise", 2), ("margin_mse", 2), ("distill", 2)):
        task = rerank(loss=loss)
        [*_, two, many, _] = uneven()
        many = many.model_copy(update={"negatives": (*many.negatives, "six"), "scores": (*many.scores, 0.0)})
        assert task.count(task.collate(task.encode([two, many], built).items)) == units


def test_rows_without_negatives_are_counted_and_left_out_where_they_teach_nothing(built: Built) -> None:
    found = [*rows(2), row("lone", ["blue"], []), row("pair", ["blue", "red"], [])]
    encoded = rerank().encode(found, built)
    assert (len(encoded.items), encoded.notes) == (4, {"rows without negatives": 2})
    encoded = rerank(loss="listwise").encode(found, built)
    assert (len(encoded.items), encoded.notes) == (2, {"rows without negatives, not trained on": 2})


def test_passages_that_read_alike_are_one_and_a_positive_first(built: Built) -> None:
    same = row("a", ["one two", "one  two"], ["dog", "one   two", "fish"], (1.0, 2.0, 3.0, 4.0, 5.0))
    encoded = rerank().encode([same], built)
    assert encoded.notes == {"passages that read like another of their row": 2}
    [item] = encoded.items
    assert (len(item.pairs), item.positives, item.negatives, item.teacher) == (3, 1, 2, (1.0, 3.0, 5.0))


def test_cut_pairs_are_counted(built: Built) -> None:
    long = row("a", ["one " * 50], ["dog", "two " * 50])
    encoded = rerank().encode([long], built)
    assert encoded.notes == {"pairs cut at 32 tokens": 2}
    assert encoded.items[0].tokens == 32 + 32 + 6


@pytest.mark.parametrize("loss", ["margin_mse", "distill"])
def test_rows_without_a_teachers_scores_are_named(loss: str, built: Built) -> None:
    found = [*rows(2), row("bare", ["one"], ["two"]), row("other", ["one"], ["two"])]
    with pytest.raises(DataError, match=f"row 'bare': loss {loss} learns a teacher's scores.*\nrow 'other'"):
        rerank(loss=loss).encode(found, built)


def test_a_loss_that_scores_no_groups_and_several_weights_are_refused() -> None:
    with pytest.raises(ValidationError, match="binary, listwise, margin_mse or distill, not contrastive"):
        rerank(loss="contrastive")
    with pytest.raises(ValidationError, match="positive_weights are one number, not 2"):
        rerank(loss={"kind": "binary", "positive_weights": [1, 2]})


def test_the_audit_shows_what_is_read_and_refuses_rows_that_are_all_right(built: Built) -> None:
    task = rerank(loss={"kind": "binary", "positive_weights": "balanced"})
    items = task.encode([row("lone", ["blue"], []), row("a", ["one", "two"], ["dog", "fish", "six"])], built).items
    assert task.audit(items, built) == [
        "positive: [CLS] red cat [SEP] one [SEP]",
        "negative: [CLS] red cat [SEP] dog [SEP]",
        "3 right and 3 wrong passages",
        "a right passage weighs 1",
    ]
    with pytest.raises(DataError, match="no training row has negatives"):
        task.audit(task.encode([row("lone", ["blue"], [])], built).items, built)


def test_rehearsed_rows_count_for_the_weight_of_a_right_passage(built: Built) -> None:
    task = rerank(loss={"kind": "binary", "positive_weights": "balanced"})
    ours, beside = (task.encode(part, built).items for part in (rows(2), [row("a", ["one"], ["two"])]))
    joined = task.joined(ours, beside)
    assert {tuple(item.counts) for item in joined} == {(3, 5)}
    weight = task.collate(joined[:1]).weight
    assert weight is not None
    assert weight.tolist() == pytest.approx([5 / 3])


def test_each_rows_own_passages_are_ranked_by_score(built: Built) -> None:
    task, found = rerank(), uneven()
    ranked = task.predictions(built.model, built, found, reads="answers", progress=lambda *_: None)
    cross = CrossEncoder(built.model, built.tokenizer, max_tokens=32)
    for one, ranking in zip(found, ranked, strict=True):
        passages = [*one.positives, *one.negatives]
        scores = dict(zip(passages, cross.score([(one.query, text) for text in passages]), strict=True))
        assert ranking == sorted(passages, key=lambda text: -scores[text])
    assert task.dev_label == "nDCG@10"
    assert task.references(found)[3] == {"one two": 1, "is not": 1}
    with pytest.raises(DataError, match="task rerank gives no"):
        task.predictions(built.model, built, found, reads="guesses", progress=lambda *_: None)


def test_a_saved_model_cuts_where_it_was_trained_to(built: Built, tmp_path: Path) -> None:
    task = rerank(max_tokens=12)
    task.save(built.model, built, tmp_path / "saved")
    long = [("red cat", "one two " * 20)]
    ours = CrossEncoder(built.model, built.tokenizer, max_tokens=12).score(long)
    assert CrossEncoder.load(str(tmp_path / "saved")).score(long) == pytest.approx(ours, rel=1e-5)
    again = task.build(str(tmp_path / "saved"))
    assert again.fresh == ()
