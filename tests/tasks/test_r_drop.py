"""R-Drop and the pull to the start, against their formulas written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional

import tiny
from burnish.errors import ModelError
from burnish.methods.full import Full
from burnish.records import Labelled
from burnish.tasks import Built
from burnish.tasks.classify import Classify
from burnish.tasks.generate import Generate
from learn import check_micro_batches, learn

LABELS = ("red", "green", "blue")
TEXTS = ("one", "two two", "three cat", "four dog dog", "five", "six bird", "seven seven seven", "eight fish")
ROWS = [Labelled(id=text, text=text, label=LABELS[(0, 1, 0, 2)[n % 4]]) for n, text in enumerate(TEXTS)]
TAGGED = [Labelled(id=text, text=text, label=LABELS[: n % 4]) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a classifier that has learned other labels of the same names, one label a text."""
    folder = tmp_path_factory.mktemp("bert")
    built = Classify(labels=LABELS).build(str(tiny.tiny_bert(folder / "base")))
    Classify(labels=LABELS).save(built.model, built, folder / "trained")
    return str(folder / "trained")


def read_twice(task: Classify, built: Built, batch: Any) -> tuple[Tensor, Tensor]:
    torch.manual_seed(7)
    first = task._logits(built.model, batch)
    return first, task._logits(built.model, batch)


@pytest.mark.parametrize("many", [False, True])
def test_r_drop_is_the_mean_loss_of_two_readings_and_half_the_divergences_both_ways(many: bool, trained: str):
    plain = Classify(labels=LABELS, many=many)
    task = plain.model_copy(update={"r_drop": 3.0})
    built = task.build(trained)
    built.model.train()
    batch = task.collate(task.encode(TAGGED if many else ROWS, built).items)
    first, second = read_twice(task, built, batch)
    kind = Bernoulli if many else Categorical
    p, q = kind(logits=first), kind(logits=second)
    gap = (kl_divergence(p, q).sum() + kl_divergence(q, p).sum()) / (len(LABELS) if many else 1)
    loss = functional.binary_cross_entropy_with_logits if many else functional.cross_entropy
    losses = [loss(logits, batch.labels, reduction="sum") / (len(LABELS) if many else 1) for logits in (first, second)]
    expected = (losses[0] + losses[1]) / 2 + 3.0 * gap / 2
    torch.manual_seed(7)
    assert task.total_loss(built.model, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert gap.item() > 1e-3


def test_without_dropout_r_drop_changes_neither_loss_nor_gradient_and_may_be_cut_into_micro_batches(trained: str):
    task = Classify(labels=LABELS, r_drop=3.0)
    built = task.build(trained)
    built.model.eval()
    batch = task.collate(task.encode(ROWS, built).items)
    plain = Classify(labels=LABELS).total_loss(built.model, batch)
    assert task.total_loss(built.model, batch).item() == pytest.approx(plain.item(), rel=1e-6)
    check_micro_batches(task, built, ROWS)


def test_r_drop_on_a_model_that_drops_nothing_is_an_error(trained: str, tmp_path: Path):
    task = Classify(labels=LABELS, r_drop=1.0)
    with pytest.raises(ModelError, match=r"r_drop compares two readings .* drops nothing; set training\.dropout"):
        learn(task, task.build(trained), ROWS, tmp_path, steps=2, rate=1e-3)  # whose dropout is 0


@pytest.mark.parametrize("name", ["r_drop", "kl_start"])
def test_a_pull_is_a_number_of_at_least_zero(name: str):
    for value in (-1.0, float("inf")):
        with pytest.raises(ValidationError, match=name):
            Classify.model_validate({"labels": LABELS, name: value})


@pytest.mark.parametrize("many", [False, True])
def test_kl_start_adds_the_divergence_from_what_the_trained_head_said(many: bool, trained: str, tmp_path: Path):
    plain = Classify(labels=LABELS, many=many)
    if many:
        started = plain.build(trained)
        plain.save(started.model, started, tmp_path / "many")
        trained = str(tmp_path / "many")
    task = plain.model_copy(update={"kl_start": 0.5})
    built = task.build(trained)
    assert built.fresh == ()
    Full().apply(built.model)
    task.begin(built.model)
    batch = task.collate(task.encode(TAGGED if many else ROWS, built).items)
    built.model.eval()
    with torch.no_grad():
        before = task._logits(built.model, batch)
        for weight in built.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        now = task._logits(built.model, batch)
        kind = Bernoulli if many else Categorical
        gap = kl_divergence(kind(logits=before), kind(logits=now)).sum() / (len(LABELS) if many else 1)
        expected = plain.total_loss(built.model, batch) + 0.5 * gap
        assert gap > 1e-3
        assert task.total_loss(built.model, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    check_micro_batches(task, built, TAGGED if many else ROWS)


def test_kl_start_refuses_a_head_that_says_nothing_yet(trained: str):
    with pytest.raises(ModelError, match="for these labels the head is new; leave it out, or go on from a model"):
        Classify(labels=("up", "down"), kl_start=1.0).build(trained)


def test_kl_start_of_a_writer_adds_the_divergence_at_every_trained_token(tmp_path: Path):
    task, plain = Generate(kl_start=0.5), Generate()
    built = task.build(str(tiny.tiny_llama(tmp_path)))
    Full().apply(built.model)
    task.begin(built.model)
    rows = tiny.completions(6)
    batch = task.collate(task.encode(rows, built).items)
    network: Any = built.model.eval()
    ids, mask, places = batch.read.padded

    def logits() -> Tensor:
        found: Tensor = network(input_ids=ids, attention_mask=mask, use_cache=False).logits.flatten(0, 1)[
            places[batch.places]
        ]
        return found

    with torch.no_grad():
        before = logits()
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
        gap = kl_divergence(Categorical(logits=before), Categorical(logits=logits())).sum()
        expected = plain.total_loss(network, batch) + 0.5 * gap
        assert gap > 1e-3
        assert task.total_loss(network, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    check_micro_batches(task, built, rows)
