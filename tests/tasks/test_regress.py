import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tiny
from burnish.errors import DataError, ModelError
from burnish.losses.huber import Huber
from burnish.methods.lora import Lora
from burnish.models.load import load_tokenizer
from burnish.models.padding import network_inputs
from burnish.records import Scored
from burnish.tasks import Built
from burnish.tasks.regress import Regress
from learn import check_micro_batches, learn, typed_bert

TASK = Regress()
TEXTS = ("one", "two two", "three cat", "four dog dog", "five", "six bird", "seven seven seven", "eight fish")
ROWS = [Scored(id=text, text=text, score=1000 + 50.0 * (n * 5 % 8)) for n, text in enumerate(TEXTS)]
PAIRS = [row.model_copy(update={"pair": other}) for row, other in zip(ROWS, [None, *reversed(TEXTS[1:])], strict=True)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_llama(tmp_path_factory.mktemp("llama")))


def outside(folder: Path, rows: list[Scored]) -> list[float]:
    """Return what transformers gives for the rows, without burnish."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(row.text, row.pair, return_tensors="pt")).logits.item() for row in rows]


def test_the_loss_is_that_of_transformers_own_head_on_standardised_scores(bert: str):
    built = TASK.build(bert)
    built.model.eval()
    batch = TASK.collate(TASK.encode(ROWS, built).items)
    scores = torch.tensor([row.score for row in ROWS], dtype=torch.double)
    targets = ((scores - scores.mean()) / scores.std(correction=0)).float()
    torch.testing.assert_close(batch.targets, targets)
    network: Any = built.model
    with torch.no_grad():
        expected = network(batch.input_ids, attention_mask=batch.attention_mask, labels=targets).loss
        loss = TASK.total_loss(built.model, batch) / TASK.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("task", [TASK, Regress(loss=Huber(delta=0.5))], ids=["mse", "huber"])
def test_micro_batches_do_not_change_loss_and_gradient(task: Regress, bert: str):
    check_micro_batches(task, task.build(bert), PAIRS)


def test_eight_rows_are_learned_and_the_saved_model_gives_scores_in_their_unit(bert: str, tmp_path: Path):
    built = TASK.build(bert)
    losses = learn(TASK, built, PAIRS, tmp_path, steps=120, rate=3e-3)
    assert losses[-1] < 0.01 < losses[0]
    items = TASK.encode(PAIRS, built).items
    found = TASK.predict(built.model, items)
    assert found == pytest.approx([row.score for row in PAIRS], abs=30)
    before = [weight.clone() for weight in built.model.parameters()]
    TASK.save(built.model, built, tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(before, built.model.parameters(), strict=True))
    assert outside(tmp_path / "model", PAIRS) == pytest.approx(found, rel=1e-5)
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").config
    assert (config.problem_type, config.num_labels) == ("regression", 1)
    assert TASK.dev_score(built.model, built, PAIRS) == pytest.approx(1.0)


def test_a_trained_head_goes_on_in_its_own_unit(bert: str, tmp_path: Path):
    built = TASK.build(bert)
    items = TASK.encode(ROWS, built).items
    expected = TASK.predict(built.model.eval(), items)
    TASK.save(built.model, built, tmp_path / "model")
    again = TASK.build(str(tmp_path / "model"))
    others = [row.model_copy(update={"score": row.score / 7}) for row in ROWS]
    more = TASK.encode(others, again).items  # does not set a new scale
    assert TASK.predict(again.model.eval(), more) == pytest.approx(expected, rel=1e-5)
    assert again.fresh == ("classifier.",)
    TASK.save(again.model, again, tmp_path / "second")
    assert outside(tmp_path / "second", ROWS) == pytest.approx(expected, rel=1e-5)


def test_a_head_that_others_trained_gives_its_own_numbers(bert: str, tmp_path: Path):
    theirs = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=1)
    theirs.save_pretrained(tmp_path)
    load_tokenizer("theirs", Path(bert)).save_pretrained(tmp_path)
    built = TASK.build(str(tmp_path))
    items = TASK.encode(ROWS, built).items
    assert items[0].target == ROWS[0].score
    assert TASK.predict(built.model.eval(), items) == pytest.approx(outside(tmp_path, ROWS), rel=1e-4, abs=1e-5)


def test_an_adapters_head_is_saved_in_the_rows_unit(bert: str, tmp_path: Path):
    built = TASK.build(bert)
    model = Lora(rank=2).apply(built.model, fresh=built.fresh)
    items = TASK.encode(PAIRS, built).items
    expected = TASK.predict(model.eval(), items)
    TASK.save(model, built, tmp_path / "model")
    assert outside(tmp_path / "model", PAIRS) == pytest.approx(expected, rel=1e-5)
    assert TASK.predict(model, items) == expected
    again = TASK.build(str(tmp_path / "model"))
    assert again.fresh == ("classifier.",)
    assert TASK.predict(again.model.eval(), TASK.encode(PAIRS, again).items) == pytest.approx(expected, rel=1e-5)


def test_a_head_without_a_bias_is_scaled_and_not_shifted(llama: str, tmp_path: Path):
    built = TASK.build(llama)
    items = TASK.encode(ROWS, built).items
    root = math.sqrt(sum(row.score**2 for row in ROWS) / len(ROWS))
    assert [item.target for item in items] == pytest.approx([row.score / root for row in ROWS])
    found = TASK.predict(built.model.eval(), items)
    TASK.save(built.model, built, tmp_path / "model")
    assert outside(tmp_path / "model", ROWS) == pytest.approx(found, rel=1e-4)
    assert TASK.audit(items, built)[-1] == f"trained on (score - 0) / {root:g}"


def test_a_decoder_learns_eight_rows(llama: str, tmp_path: Path):
    built = TASK.build(llama)
    losses = learn(TASK, built, ROWS, tmp_path, steps=80, rate=5e-3)
    assert losses[-1] < 0.01 < losses[0]


def test_the_two_texts_of_a_pair_are_told_apart_where_the_model_does(bert: str, tmp_path: Path):
    built = TASK.build(str(typed_bert(tmp_path)))
    items = TASK.encode(PAIRS, built).items
    single, pair = items[0], items[1]
    assert set(single.types) == {0}
    assert pair.types == (0,) * (len(PAIRS[1].text.split()) + 2) + (1,) * (len(str(PAIRS[1].pair).split()) + 1)
    batch = TASK.collate(items)
    assert batch.types is not None
    inputs = network_inputs(built.model, batch.input_ids, batch.attention_mask, batch.types)
    assert torch.equal(inputs["token_type_ids"], batch.types)
    plain = TASK.build(bert)
    assert TASK.collate(TASK.encode(PAIRS, plain).items).types is None
    assert TASK.collate(TASK.encode(ROWS, built).items).types is None


def test_texts_that_are_cut_are_counted(bert: str):
    encoded = Regress(max_tokens=5).encode(ROWS, TASK.build(bert))
    assert encoded.notes == {"texts that fill all 5 tokens": 2}


def test_the_audit_shows_texts_scores_and_their_scale(bert: str):
    built = TASK.build(bert)
    assert TASK.audit(TASK.encode(PAIRS, built).items, built) == [
        "[CLS] one [SEP] → 1000",
        "[CLS] two two [SEP] eight fish [SEP] → 1250",
        "[CLS] three cat [SEP] seven seven seven [SEP] → 1100",
        "trained on (score - 1175) / 114.564",
    ]


def test_lower_is_better_turns_the_sign_of_the_dev_score(bert: str):
    task = Regress.model_validate({"metrics": ["rmse"]})
    built = task.build(bert)
    found = task.predict(built.model.eval(), task.encode(ROWS, built).items)
    errors = [(ours - row.score) ** 2 for ours, row in zip(found, ROWS, strict=True)]
    assert task.dev_score(built.model, built, ROWS) == pytest.approx(-math.sqrt(sum(errors) / len(errors)), rel=1e-6)
    assert (task.dev_label, TASK.dev_label) == ("-RMSE", TASK.metrics[0].label)


def test_scores_that_are_all_the_same_are_refused(bert: str):
    rows = [row.model_copy(update={"score": 2.5}) for row in ROWS]
    with pytest.raises(DataError, match=r"all 8 rows have the score 2\.5, so there is nothing to learn"):
        TASK.encode(rows, TASK.build(bert))


def test_a_loss_that_is_none_between_numbers_is_refused():
    with pytest.raises(ValidationError, match="the loss of a regression is mse or huber, not cross_entropy"):
        Regress.model_validate({"loss": "cross_entropy"})


def test_a_model_whose_last_layer_cannot_be_told_is_refused(bert: str, monkeypatch: pytest.MonkeyPatch):
    built: Built = TASK.build(bert)
    built.model.second = nn.Linear(4, 1)
    with pytest.raises(ModelError, match="BertForSequenceClassification has 2 linear layers of one output"):
        TASK.save(built.model, built, Path("unused"))
