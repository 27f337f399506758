from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import tiny
from burnish.errors import DataError, ModelError
from burnish.losses.contrastive import Contrastive
from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.models.late import LateEncoder
from burnish.models.maxsim import maxsim
from burnish.records import Pair
from burnish.tasks import Built
from burnish.tasks.late import Late

TASK = Late(query_tokens=16, passage_tokens=24, width=8)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("task") / "bert", words=[*tiny.WORDS, ".", ","]))


@pytest.fixture
def built(bert: str) -> Built:
    return TASK.build(bert)


def pair(name: str, query: str, positives: list[str], negatives: list[str] | None = None) -> Pair:
    return Pair(id=name, query=query, positives=tuple(positives), negatives=tuple(negatives or []))


def test_the_loss_is_that_of_the_sums_of_all_queries_and_passages_at_temperature_1(built: Built) -> None:
    rows = tiny.pairs(6)
    late: Any = built.model
    passages = [text for row in rows for text in (*row.positives, *row.negatives)]
    scores = maxsim(late.encode_queries([row.query for row in rows]), late.encode_passages(passages))
    expected = functional.cross_entropy(scores, torch.arange(0, 12, 2), reduction="sum")
    batch = TASK.collate(TASK.encode(rows, built).items)
    with torch.no_grad():
        assert TASK.total_loss(late, batch).item() == pytest.approx(expected.item(), rel=1e-4)
    assert TASK.count(batch) == 6


def test_how_many_tokens_a_pass_holds_does_not_change_loss_or_gradient(built: Built) -> None:
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


def test_a_passage_that_two_queries_share_is_a_positive_of_both(built: Built) -> None:
    rows = [pair("a", "red", ["one two"], ["three"]), pair("b", "blue", ["one two", "four"], ["five"])]
    batch = TASK.collate(TASK.encode(rows, built).items)
    assert batch.positive_qd.tolist() == [[True, False, False, False], [True, False, True, False]]


def test_what_answers_a_query_in_one_row_is_wrong_for_it_in_none(built: Built) -> None:
    rows = [pair("a", "red", ["one"], ["two", "three"]), pair("b", "red", ["two"], ["four"])]
    first, second = TASK.encode(rows, built).items
    assert (len(first.negatives), first.known, second.known) == (1, second.positives, first.positives)
    batch = TASK.collate([first, second])
    assert batch.known_qd.tolist() == [[True, False, True, False]] * 2
    assert batch.negative_qd.tolist() == [[False, True, False, False], [False, False, False, True]]


def test_a_teachers_scores_are_learned_by_a_querys_own_passages(bert: str) -> None:
    scores = torch.tensor([[1.0, 4.0], [2.0, -1.0], [0.0, 0.5]])
    rows = [
        Pair(**{**row.model_dump(), "scores": said}) for row, said in zip(tiny.pairs(3), scores.tolist(), strict=True)
    ]
    for kind, expected in (("distill", Distill(temperature=1.0)), ("margin_mse", MarginMse())):
        task = Late.model_validate({"loss": kind, "query_tokens": 16, "passage_tokens": 24, "width": 8})
        assert (task.loss, task.divisible) == (expected, True)
        built = task.build(bert)
        late: Any = built.model
        passages = [text for row in rows for text in (*row.positives, *row.negatives)]
        found = maxsim(late.encode_queries([row.query for row in rows]), late.encode_passages(passages))
        own = torch.stack([found[row, 2 * row : 2 * row + 2] for row in range(3)])
        right = torch.tensor([[True, False]] * 3)
        wanted = (
            expected(own, right | ~right, scores)
            if isinstance(expected, Distill)
            else expected(own, right, ~right, scores)
        )
        items = task.encode(rows, built).items
        task.audit(items, built)
        with torch.no_grad():
            assert task.total_loss(late, task.collate(items)).item() == pytest.approx(wanted.item(), rel=1e-4)
            if isinstance(expected, Distill):
                both = task.model_copy(update={"loss": Distill(temperature=1.0, labels=0.5)})
                assert not both.divisible
                named = Contrastive(temperature=1.0)(found, torch.eye(3).repeat_interleave(2, 1).bool() & one_of_two())
                total = wanted + 0.5 * named
                assert both.total_loss(late, task.collate(items)).item() == pytest.approx(total.item(), rel=1e-4)


def one_of_two() -> torch.Tensor:
    """Return which passages are positives of any row: the first of each row's two."""
    return torch.tensor([True, False] * 3)


def test_a_loss_by_a_teacher_names_the_rows_that_lack_something(bert: str) -> None:
    task = Late.model_validate({"loss": "distill", "query_tokens": 16, "passage_tokens": 24})
    built = task.build(bert)
    with pytest.raises(DataError, match=r"row 'a': .* no `scores`\nrow 'a': .* no `negatives` beside its positives"):
        task.audit(task.encode([pair("a", "red", ["one"])], built).items, built)


def test_a_loss_takes_the_temperature_of_sums_where_none_is_said() -> None:
    said = {"kind": "contrastive", "temperature": 0.2}
    losses = [Late.model_validate({"loss": loss}).loss for loss in ("contrastive", {"kind": "distill"}, said)]
    assert losses == [Contrastive(temperature=1.0), Distill(temperature=1.0), Contrastive(temperature=0.2)]
    assert Late().loss == Contrastive(temperature=1.0)


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        ("triplet", "the loss of late interaction is contrastive, margin_mse or distill, not triplet"),
        (
            {"kind": "contrastive", "directions": ["query_to_passage", "query_to_query"]},
            "query_to_query needs one vector a text; late interaction knows query_to_passage, passage_to_query",
        ),
    ],
)
def test_a_loss_that_is_not_for_sums_is_refused(loss: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Late.model_validate({"loss": loss})


def test_cut_texts_are_counted_once(built: Built) -> None:
    long = " ".join(["one"] * 40)
    encoded = TASK.encode([pair("a", "red", [long]), pair("b", long, [long], ["three"])], built)
    assert encoded.notes == {"queries cut at the end": 1, "passages cut at the end": 1}
    assert len(encoded.items[0].positives[0]) == 24


def test_a_positive_without_a_token_to_compare_leaves_its_row_out(tmp_path: Path) -> None:
    llama = tiny.tiny_llama(tmp_path / "llama", words=[*tiny.WORDS, "."])
    task = TASK.model_copy(update={"skip_punctuation": True})
    encoded = task.encode(
        [pair("a", "red", [". ."]), pair("b", "red", ["one", ". ."], [". ."])], task.build(str(llama))
    )
    assert [item.id for item in encoded.items] == ["b"]
    assert (len(encoded.items[0].positives), encoded.items[0].negatives) == (1, ())
    assert encoded.notes == {"rows left out, whose positives have no token to compare": 1}


def test_the_audit_shows_what_is_read_and_compared(bert: str) -> None:
    task = TASK.model_copy(update={"skip_punctuation": True, "expand_to": 6})
    built = task.build(bert)
    lines = task.audit(task.encode([pair("a", "red cat", ["one , two"], ["three"])], built).items, built)
    assert lines == [
        "query: [CLS] red cat [SEP] [MASK] [MASK] (6 of 6 tokens are compared)",
        "positive: [CLS] one , two [SEP] (4 of 5 tokens are compared)",
        "negative: [CLS] three [SEP] (3 of 3 tokens are compared)",
    ]


def test_the_dev_score_is_perfect_where_each_query_is_its_passage(built: Built) -> None:
    rows = [pair(word, word, [word]) for word in ("red", "green", "blue", "cat", "dog")]
    assert TASK.dev_score(built.model, built, rows) == pytest.approx(1.0)
    assert TASK.dev_label == "nDCG@10"


def test_what_the_recipe_says_of_texts_is_saved_with_the_model(bert: str, tmp_path: Path) -> None:
    task = TASK.model_copy(update={"skip_punctuation": True, "expand_to": 6, "query_prefix": "question "})
    built = task.build(bert)
    task.save(built.model, built, tmp_path / "model")
    kept: Any = Late(width=8, query_tokens=16).build(str(tmp_path / "model")).model
    assert (kept.format.expand_to, kept.format.query_prefix, "." in kept.format.skipped_words) == (6, "question ", True)
    other: Any = Late(width=8, skip_punctuation=False, expand_to=0).build(str(tmp_path / "model")).model
    assert (other.format.expand_to, other.format.skipped_words) == (0, ())


def test_a_new_projection_is_drawn_from_the_seed_and_is_fresh(bert: str) -> None:
    first, same, other = (TASK.build(bert, seed=seed) for seed in (1, 1, 2))
    weights = [dict(built.model.named_parameters())["projection.weight"] for built in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.fresh == ("projection.",)
    assert TASK.model_copy(update={"width": None}).build(bert).fresh == ()


def test_a_saved_model_keeps_its_width_or_is_refused(bert: str, built: Built, tmp_path: Path) -> None:
    TASK.save(built.model, built, tmp_path / "model")
    assert TASK.build(str(tmp_path / "model")).fresh == ()
    with pytest.raises(ModelError, match="has a projection to 8 dimensions, and the task's width is 4; say width: 8"):
        Late(width=4).build(str(tmp_path / "model"))
    raw = TASK.model_copy(update={"width": None})
    raw.save(LateEncoder.load(bert, dtype=torch.float32), built, tmp_path / "raw")
    with pytest.raises(ModelError, match="has no projection, and the task's width is 8; say width: null"):
        TASK.build(str(tmp_path / "raw"))
    assert raw.build(str(tmp_path / "raw")).fresh == ()


def test_queries_filled_up_beyond_their_cut_are_refused(bert: str) -> None:
    with pytest.raises(ModelError, match="filled up to 32 tokens, and cut after 16; raise query_tokens"):
        TASK.model_copy(update={"expand_to": 32}).build(bert)


def test_a_learned_temperature_starts_where_the_recipe_has_it(bert: str) -> None:
    task = TASK.model_copy(update={"loss": Contrastive(temperature=0.5, learn="temperature")})
    fixed = TASK.model_copy(update={"loss": Contrastive(temperature=0.5)})
    learned, plain = task.build(bert), fixed.build(bert)
    assert learned.fresh == ("projection.", "log_scale")
    batch = task.collate(task.encode(tiny.pairs(4), learned).items)
    with torch.no_grad():
        expected = fixed.total_loss(plain.model, batch).item()
        assert task.total_loss(learned.model, batch).item() == pytest.approx(expected, rel=1e-5)
