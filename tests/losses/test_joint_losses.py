"""Losses of a retriever that learns from a generator, against formulas written out in loops, in fp64."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from burnish.losses import Joint, Loss
from burnish.losses.adist import Adist
from burnish.losses.anchor_kl import AnchorKl
from burnish.losses.emdr2 import Emdr2
from burnish.losses.pdist import Pdist
from burnish.losses.rag_sequence import RagSequence
from burnish.losses.rag_token import RagToken
from burnish.losses.replug import Replug
from losses.joint_cases import (
    CASES,
    DISTILLED,
    MARGINALS,
    Case,
    Given,
    by_token,
    given,
    gradients,
    of,
    posterior,
    rows_of,
    softmax,
    value,
)


@of(CASES)
def test_the_value_is_that_of_a_loop_over_questions(case: Case) -> None:
    expected = sum(case.value(row) for row in rows_of(given()))
    assert value(case.loss, given()).item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@of(CASES)
def test_the_gradient_in_the_scores_has_its_closed_form(case: Case) -> None:
    found, _ = gradients(case.loss, given())
    for row, question in enumerate(rows_of(given())):
        many = len(question.scores)
        assert found[row, :many].tolist() == pytest.approx(case.gradient(question), rel=1e-9, abs=1e-10)
        assert found[row, many:].tolist() == [0] * (4 - many)


@of(CASES)
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    all_of = given()
    scores = all_of.scores.clone().requires_grad_()
    if isinstance(case.loss, Joint) and case.loss.trains_generator:
        logps = all_of.logps.clone().requires_grad_()
        masked = (torch.arange(5) < all_of.tokens[:, None])[:, None] & all_of.there[:, :, None]
        assert torch.autograd.gradcheck(
            lambda s, p: value(case.loss, replace(all_of, scores=s, logps=p * masked)), (scores, logps)
        )
    else:
        assert torch.autograd.gradcheck(lambda s: value(case.loss, replace(all_of, scores=s)), (scores,))


@pytest.mark.parametrize("loss", [RagSequence(), RagToken()], ids=lambda loss: loss.kind)
def test_the_generator_is_taught_by_the_posteriors(loss: Any) -> None:
    _, found = gradients(loss, given())
    assert found is not None
    for row, question in enumerate(rows_of(given())):
        prior = softmax(question.scores, 0.05)
        length = len(question.logps[0])
        if isinstance(loss, RagToken):
            weights = [posterior(prior, logps) for logps in by_token(question)]
        else:
            weights = [posterior(prior, question.sums)] * length
        expected = torch.zeros(4, 5, dtype=torch.float64)
        expected[: len(prior), :length] = -torch.tensor(weights, dtype=torch.float64).T
        torch.testing.assert_close(found[row], expected, rtol=1e-10, atol=1e-12)


@of([case for case in CASES if not isinstance(case.loss, RagSequence | RagToken)])
def test_the_others_give_the_generator_no_gradient(case: Case) -> None:
    _, found = gradients(case.loss, given())
    assert found is None


def test_emdr2_is_to_the_retriever_what_rag_sequence_is() -> None:
    first, second = RagSequence(), Emdr2()
    assert value(first, given()).item() == value(second, given()).item()
    assert torch.equal(gradients(first, given())[0], gradients(second, given())[0])


def test_answers_of_one_token_make_rag_sequence_and_rag_token_one() -> None:
    short = replace(given(), logps=given().logps[:, :, :1], tokens=torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(value(RagSequence(), short), value(RagToken(), short))
    for found, expected in zip(gradients(RagSequence(), short), gradients(RagToken(), short), strict=True):
        torch.testing.assert_close(found, expected)


def test_from_equal_scores_an_untempered_pdist_learns_what_emdr2_does() -> None:
    level = replace(given(), scores=torch.zeros(3, 4, dtype=torch.float64))
    found, _ = gradients(Pdist(length="none", target_temperature=1.0), level)
    torch.testing.assert_close(found, gradients(Emdr2(), level)[0])


def indifferent() -> Given:
    """Return questions whose answers are as likely with one passage as with another."""
    return replace(given(), logps=given().logps[:, :1].expand(3, 4, 5), signal=torch.ones(3, 4, dtype=torch.float64))


@of(MARGINALS)
def test_an_indifferent_generator_moves_no_retriever_by_a_probability(case: Case) -> None:
    found, _ = gradients(case.loss, indifferent())
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


@of(DISTILLED)
def test_an_indifferent_generator_is_a_uniform_target(case: Case) -> None:
    uniform = replace(case, target=lambda row: [1 / len(row.scores)] * len(row.scores))
    found, _ = gradients(case.loss, indifferent())
    for row, question in enumerate(rows_of(given())):
        assert found[row, : len(question.scores)].tolist() == pytest.approx(uniform.gradient(question), rel=1e-9)


@of(CASES)
def test_an_indifferent_generator_leaves_equal_scores_as_they_are(case: Case) -> None:
    found, _ = gradients(case.loss, replace(indifferent(), scores=torch.full((3, 4), 0.3, dtype=torch.float64)))
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


@of(CASES)
def test_passages_that_all_stand_three_times_change_nothing(case: Case) -> None:
    one, three = given(), given().passages([0, 1, 2, 3] * 3)
    torch.testing.assert_close(value(case.loss, three), value(case.loss, one), rtol=1e-10, atol=1e-12)
    found, learned = gradients(case.loss, three)
    expected, taught = gradients(case.loss, one)
    torch.testing.assert_close(found.view(3, 3, 4).sum(dim=1), expected, rtol=1e-9, atol=1e-10)
    if learned is not None and taught is not None:
        torch.testing.assert_close(learned.view(3, 3, 4, 5).sum(dim=1), taught, rtol=1e-9, atol=1e-10)


@of(CASES)
def test_the_order_of_passages_and_of_questions_does_not_matter(case: Case) -> None:
    turned = given().passages([2, 0, 3, 1])
    parts = (turned.scores, turned.there, turned.logps, turned.tokens, turned.signal)
    torch.testing.assert_close(value(case.loss, Given(*(part.flip(0) for part in parts))), value(case.loss, given()))


@of(CASES)
def test_the_sum_is_that_of_single_questions_with_their_own_passages(case: Case) -> None:
    all_of = given()
    alone = [all_of[slice(row, row + 1)].passages(range(many)) for row, many in enumerate((4, 2, 3))]
    expected = torch.stack([value(case.loss, question) for question in alone])
    torch.testing.assert_close(value(case.loss, all_of), expected.sum(), rtol=1e-10, atol=1e-12)
    found, _ = gradients(case.loss, all_of)
    for row, question in enumerate(alone):
        ours, _ = gradients(case.loss, question)
        torch.testing.assert_close(found[row : row + 1, : ours.shape[1]], ours, rtol=1e-9, atol=1e-10)


@of(CASES)
def test_what_stands_where_no_passage_is_is_not_read(case: Case) -> None:
    clean = given()
    gone, none = ~clean.there, torch.nan
    dirty = Given(
        clean.scores.masked_fill(gone, none),
        clean.there,
        clean.logps.masked_fill(gone[:, :, None], none),
        clean.tokens,
        clean.signal.masked_fill(gone, none),
    )
    assert value(case.loss, dirty).item() == value(case.loss, clean).item()
    for found, expected in zip(gradients(case.loss, dirty), gradients(case.loss, clean), strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert torch.equal(found, expected)


@of(CASES)
def test_one_passage_teaches_the_retriever_nothing(case: Case) -> None:
    found, learned = gradients(case.loss, given().passages([0]))
    assert torch.equal(found, torch.zeros_like(found))
    if learned is not None:
        assert (learned[0] == -1).all()


@of(CASES)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_long_and_improbable_answers_stay_finite(case: Case, size: float) -> None:
    draw = torch.Generator().manual_seed(3)
    logps = torch.full((2, 4, 1000), -50.0) - torch.rand(2, 4, 1000, generator=draw)
    there = torch.tensor([[True] * 4, [True, True, False, False]])
    scores, signal = (size * (2 * torch.rand(2, 4, generator=draw) - 1) for _ in range(2))
    long = Given(scores, there, logps, torch.tensor([1000, 700]), signal)
    found = value(case.loss, long)
    assert math.isfinite(found.item())
    assert found.dtype == torch.float32
    assert all(torch.isfinite(gradient).all() for gradient in gradients(case.loss, long) if gradient is not None)


@of(CASES)
def test_half_precision_is_summed_in_fp32(case: Case) -> None:
    clean = given()
    half = replace(clean, **{name: getattr(clean, name).bfloat16() for name in ("scores", "logps", "signal")})
    full = replace(half, **{name: getattr(half, name).float() for name in ("scores", "logps", "signal")})
    assert value(case.loss, half).dtype == torch.float32
    assert value(case.loss, half).item() == value(case.loss, full).item()


def test_long_answers_make_one_passage_the_posterior_and_say_nothing_as_probabilities() -> None:
    """The two pitfalls of whole answers, where the mean of a token still tells passages apart."""
    logps = torch.tensor([-1.0, -1.1, -1.2], dtype=torch.float64)[None, :, None].expand(1, 3, 500)
    there, tokens = torch.ones(1, 3, dtype=torch.bool), torch.tensor([500])
    scores = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)

    def target(loss: Any) -> list[float]:
        """Return p - θ · gradient, which is what the softmax is pulled to."""
        [slope] = torch.autograd.grad(loss(scores, there, logps, tokens), scores)
        found: list[float] = (1 / 3 - loss.temperature * slope[0]).tolist()
        return found

    assert target(RagSequence()) == pytest.approx([1, 0, 0], abs=1e-12)
    assert target(Replug(probability="sequence")) == pytest.approx([1 / 3] * 3, abs=1e-12)
    assert target(Pdist()) == pytest.approx(softmax([-1.0, -1.1, -1.2], 0.1), abs=1e-9)


def test_the_anchor_pulls_nothing_where_nothing_has_moved() -> None:
    start = replace(given(), signal=given().scores)
    assert value(AnchorKl(), start).item() == 0
    found, _ = gradients(AnchorKl(), start)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


def test_losses_say_what_they_read_and_whom_they_train() -> None:
    joint = [Loss.named(name) for name in Loss.names() if issubclass(Loss.named(name), Joint | Adist)]
    assert {member.__name__: (member.reads, member.trains_generator) for member in joint} == {  # type: ignore[attr-defined]
        "Adist": ("attention", False),
        "Emdr2": ("alone", False),
        "Loop": ("all_but", False),
        "Pdist": ("alone", False),
        "RagSequence": ("alone", True),
        "RagToken": ("alone", True),
        "Replug": ("alone", False),
    }


@pytest.mark.parametrize(
    ("kind", "key", "wrong"),
    [
        ("rag_sequence", "temperature", 0),
        ("rag_token", "temperature", -1),
        ("emdr2", "temperature", math.inf),
        ("pdist", "target_temperature", 0),
        ("pdist", "length", "sum"),
        ("pdist", "direction", "both"),
        ("replug", "probability", "token"),
        ("loop", "length", "none"),
        ("adist", "target_temperature", 0),
        ("anchor_kl", "direction", "reverse"),
    ],
)
def test_settings_that_make_no_loss_are_refused(kind: str, key: str, wrong: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Loss.read({"kind": kind, key: wrong})
