from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from burnish.errors import DataError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.focal import Focal
from burnish.methods import Method
from burnish.methods.lora import Lora
from burnish.models.load import load_tokenizer
from burnish.models.padding import network_inputs
from burnish.records import Labelled
from burnish.tasks import Built
from burnish.tasks.classify import Classify
from learn import check_micro_batches, learn

LABELS = ("red", "green", "blue")
ONE = Classify(labels=LABELS)
MANY = Classify(labels=LABELS, many=True)
TEXTS = ("one", "two two", "three cat", "four dog dog", "five", "six bird", "seven seven seven", "eight fish")
ROWS = [Labelled(id=text, text=text, label=LABELS[(0, 1, 0, 2)[n % 4]]) for n, text in enumerate(TEXTS)]
SETS = [(), ("red",), ("blue", "red"), ("green",), ("red", "green", "blue"), (), ("blue",), ("green", "blue")]
TAGGED = [Labelled(id=text, text=text, label=labels) for text, labels in zip(TEXTS, SETS, strict=True)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def built(bert: str) -> Built:
    return ONE.build(bert)


def test_the_loss_is_that_of_transformers_own_head(built: Built):
    built.model.eval()
    batch = ONE.collate(ONE.encode(ROWS, built).items)
    network: Any = built.model
    with torch.no_grad():
        expected = network(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        loss = ONE.total_loss(built.model, batch) / ONE.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_multi_label_loss_is_that_of_transformers_own_head(bert: str):
    built = MANY.build(bert)
    built.model.eval()
    batch = MANY.collate(MANY.encode(TAGGED, built).items)
    network: Any = built.model
    with torch.no_grad():
        expected = network(batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        loss = MANY.total_loss(built.model, batch) / MANY.count(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        (ONE, ROWS),
        (MANY, TAGGED),
        (Classify(labels=LABELS, loss=Focal(class_weights="balanced")), ROWS),
        (Classify(labels=LABELS, loss=CrossEntropy(class_weights=(1, 2, 3), logit_adjustment=1)), ROWS),
        (Classify.model_validate({"labels": LABELS, "many": True, "loss": {"kind": "binary"}}), TAGGED),
    ],
    ids=["plain", "many", "focal", "weighted", "binary"],
)
def test_micro_batches_do_not_change_loss_and_gradient(task: Classify, rows: list[Labelled], bert: str):
    check_micro_batches(task, task.build(bert), rows)


@pytest.mark.parametrize(("task", "rows"), [(ONE, ROWS), (MANY, TAGGED)], ids=["one", "many"])
def test_eight_rows_are_learned_and_a_saved_model_gives_equal_answers(
    task: Classify, rows: list[Labelled], bert: str, tmp_path: Path
):
    built = task.build(bert)
    losses = learn(task, built, rows, tmp_path, steps=120, rate=5e-3)
    assert losses[-1] < 0.02 < losses[0]
    items = task.encode(rows, built).items
    assert task.predict(built.model, items) == task.references(rows)
    assert task.dev_score(built.model, built, rows) == 1.0
    task.save(built.model, built, tmp_path / "model")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again.config.id2label == dict(enumerate(LABELS))
    kind = "multi" if task.many else "single"
    assert again.config.problem_type == f"{kind}_label_classification"
    for row, shares in zip(rows, task.probabilities(built.model, items), strict=True):
        with torch.no_grad():
            logits = again(**tokenizer(row.text, return_tensors="pt")).logits[0]
        found = logits.sigmoid() if task.many else logits.softmax(dim=0)
        assert list(shares.values()) == pytest.approx(found.tolist(), abs=1e-5)
    kept = task.build(str(tmp_path / "model"))
    assert kept.fresh == ()
    assert task.predict(kept.model.eval(), items) == task.references(rows)


def test_a_head_for_one_label_is_not_kept_for_several(built: Built, tmp_path: Path):
    ONE.save(built.model, built, tmp_path / "model")
    assert ONE.build(str(tmp_path / "model")).fresh == ()
    assert MANY.build(str(tmp_path / "model")).fresh == ("classifier.",)


def test_balanced_weights_and_prior_are_those_of_the_rows(built: Built):
    task = Classify(labels=LABELS, loss=CrossEntropy(class_weights="balanced", logit_adjustment=0.5))
    items = task.encode(ROWS, built).items  # four red, two green, two blue
    batch = task.collate(items[:2])
    assert batch.weights is not None
    assert batch.prior is not None
    assert batch.weights.tolist() == pytest.approx([8 / (3 * 4), 8 / (3 * 2), 8 / (3 * 2)])
    assert batch.prior.tolist() == [0.5, 0.25, 0.25]
    whole = task.collate(items)
    assert whole.weights is not None
    assert whole.weights[whole.labels].mean().item() == pytest.approx(1.0)
    built.model.eval()
    with torch.no_grad():
        logits = built.model(**network_inputs(built.model, whole.input_ids, whole.attention_mask)).logits
        adjusted = logits + 0.5 * batch.prior.log()
        rows = functional.cross_entropy(adjusted, whole.labels, reduction="none") * batch.weights[whole.labels]
        assert task.total_loss(built.model, whole).item() == pytest.approx(rows.sum().item(), rel=1e-5)


def test_balanced_positive_weights_are_no_over_yes(bert: str):
    task = Classify.model_validate({**MANY.model_dump(), "loss": {"kind": "binary", "positive_weights": "balanced"}})
    batch = task.collate(task.encode(TAGGED[:4], task.build(bert)).items)  # red twice, green once, blue once, of four
    assert batch.weights is not None
    assert batch.weights.tolist() == [1.0, 3.0, 3.0]
    assert batch.labels.tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_the_probabilities_of_one_label_add_to_one_and_the_largest_is_predicted(built: Built):
    items = ONE.encode(ROWS, built).items
    for shares, label in zip(ONE.probabilities(built.model, items), ONE.predict(built.model, items), strict=True):
        assert list(shares) == list(LABELS)
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
        assert shares[str(label)] == max(shares.values())


def test_many_labels_are_those_of_at_least_even_odds(bert: str):
    built = MANY.build(bert)
    items = MANY.encode(TAGGED, built).items
    for shares, labels in zip(MANY.probabilities(built.model, items), MANY.predict(built.model, items), strict=True):
        assert labels == tuple(label for label in LABELS if shares[label] >= 0.5)


def test_a_decoder_reads_the_last_token_whatever_its_padding_token_is(tmp_path: Path):
    folder = tiny.tiny_llama(tmp_path / "llama")
    tokenizer = load_tokenizer("llama", folder)
    tokenizer.pad_token = "red"  # any token but number 0
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"pad_token_id": 0', f'"pad_token_id": {tokenizer.pad_token_id}'))
    built = ONE.build(str(folder))
    rows = [Labelled(id="a", text="one two three four five", label="red"), Labelled(id="b", text="six", label="blue")]
    items = ONE.encode(rows, built).items
    together = ONE.probabilities(built.model, items)
    apart = [ONE.probabilities(built.model, [item])[0] for item in items]
    for ours, alone in zip(together, apart, strict=True):
        assert list(ours.values()) == pytest.approx(list(alone.values()), abs=1e-5)


def test_an_adapters_head_is_saved_with_it(bert: str, tmp_path: Path):
    built = ONE.build(bert)
    model = Lora(rank=2).apply(built.model, fresh=built.fresh)
    items = ONE.encode(ROWS, built).items
    expected = ONE.probabilities(model.eval(), items)
    ONE.save(model, built, tmp_path / "model")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=3).eval()
    for row, shares in zip(ROWS, expected, strict=True):
        with torch.no_grad():
            logits = base(**built.tokenizer(row.text, return_tensors="pt")).logits[0]
        assert list(shares.values()) == pytest.approx(logits.softmax(dim=0).tolist(), abs=1e-5)


def test_the_saved_tokenizer_does_not_cut(built: Built, tmp_path: Path):
    ONE.encode(ROWS, built)
    ONE.save(built.model, built, tmp_path)
    assert '"truncation": null' in (tmp_path / "tokenizer.json").read_text()


def test_the_audit_shows_three_texts_with_their_labels(bert: str):
    built = MANY.build(bert)
    assert MANY.audit(MANY.encode(TAGGED, built).items, built) == [
        "[CLS] one [SEP] → no label",
        "[CLS] two two [SEP] → red",
        "[CLS] three cat [SEP] → red, blue",
    ]
    assert ONE.audit(ONE.encode(ROWS, built).items, built)[0] == "[CLS] one [SEP] → red"


def test_the_audit_shows_weights_and_prior(built: Built):
    task = Classify(labels=LABELS, loss=CrossEntropy(class_weights="balanced", logit_adjustment=1))
    lines = task.audit(task.encode(ROWS, built).items, built)
    assert lines[3:] == ["weights: red 0.667, green 1.33, blue 1.33", "prior: red 0.5, green 0.25, blue 0.25"]


def test_a_label_that_no_row_has_cannot_be_weighed_by_its_share(built: Built):
    task = Classify(labels=(*LABELS, "cat"), loss=CrossEntropy(logit_adjustment=1))
    items = task.encode(ROWS, built).items
    with pytest.raises(DataError, match=r"no training row has the label 'cat', and the loss \(cross_entropy\) weighs"):
        task.audit(items, built)
    assert Classify(labels=(*LABELS, "cat")).audit(items, built)


def test_unknown_labels_are_named_with_their_rows(built: Built):
    rows = [Labelled(id="a", text="x", label="rde"), Labelled(id="b", text="x", label="xyz"), *ROWS]
    with pytest.raises(DataError) as caught:
        ONE.encode(rows, built)
    assert str(caught.value).split("\n") == [
        "row 'a': label 'rde' is not in the recipe's task.labels [red, green, blue]. Did you mean 'red'?",
        "row 'b': label 'xyz' is not in the recipe's task.labels [red, green, blue].",
    ]
    with pytest.raises(DataError, match=r"row 'a': label 'blew' .* Did you mean 'blue'\?"):
        MANY.encode([Labelled(id="a", text="x", label=("red", "blew"))], built)


def test_several_labels_are_refused_where_the_task_gives_one(built: Built):
    with pytest.raises(DataError, match=r"row 'one': it has a list of labels, and the task gives one; set task\.many"):
        ONE.encode(TAGGED[:1], built)


def test_one_label_is_one_of_many(bert: str):
    built = MANY.build(bert)
    assert [item.labels for item in MANY.encode(ROWS[:2], built).items] == [(0,), (1,)]


def test_texts_that_are_cut_are_counted(built: Built):
    task = Classify(labels=LABELS, max_tokens=5)
    encoded = task.encode([*ROWS, Labelled(id="long", text="one " * 9, label="red")], built)
    assert encoded.notes == {"texts that fill all 5 tokens": 3}
    assert encoded.items[-1].tokens == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"many": True, "loss": "focal"}, "with `many: true` the loss is binary, not focal"),
        ({"loss": "binary"}, "with `many: false` the loss is cross_entropy or focal, not binary"),
        ({"loss": "mse"}, "with `many: false` the loss is cross_entropy or focal, not mse"),
        ({"loss": {"kind": "focal", "class_weights": [1, 2]}}, "the loss has 2 weights, and there are 3 labels"),
        ({"labels": ["a", "b", "a"]}, "label 'a' stands twice in labels"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Classify.model_validate({"labels": LABELS, **settings})


def test_loss_and_metric_follow_the_kind_of_labels():
    assert (ONE.loss.kind, ONE.dev_label) == ("cross_entropy", "accuracy")
    assert (MANY.loss.kind, MANY.dev_label) == ("binary", "micro F1")


@pytest.mark.parametrize("kind", ["lora", "adapters"])
def test_an_adapters_folder_names_the_labels(kind: str, bert: str, tmp_path: Path):
    built = ONE.build(bert)
    model = Method.read(kind).apply(built.model, fresh=built.fresh)
    ONE.save(model, built, tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model" / "network")
    assert list(config.id2label.values()) == list(ONE.labels)
    if kind == "lora":
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", config=config)
        assert loaded.config.id2label == config.id2label


def test_a_pair_is_read_as_one_with_its_second_text_behind_the_first(tmp_path: Path) -> None:
    rows = [
        Labelled(id="a", text="the cat", pair="is red", label="x"),
        Labelled(id="b", text="a", pair="dog", label="y"),
    ]
    task = Classify(labels=("x", "y"))
    built = task.build(str(tiny.tiny_bert(tmp_path)))
    items = task.encode(rows, built).items
    decoded = [built.tokenizer.decode(item.text) for item in items]
    assert decoded == ["[CLS] the cat [SEP] is red [SEP]", "[CLS] a [SEP] dog [SEP]"]
    assert items[0].types == built.tokenizer("the cat", "is red").get("token_type_ids", ())
    with pytest.raises(DataError, match="row 'c': it has no `pair`, and other rows have one"):
        task.encode([*rows, Labelled(id="c", text="a", label="x")], built)


def test_a_row_without_a_pair_is_written_as_before() -> None:
    assert Labelled(id="a", text="the cat", label="x").model_dump() == {
        "id": "a",
        "group": "",
        "text": "the cat",
        "label": "x",
    }
