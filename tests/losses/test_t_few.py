"""T-Few's loss against loops written by hand, its gradient in closed form and by finite differences."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from burnish.losses.t_few import TFew

ROWS: list[tuple[list[list[float]], int]] = [  # ln of tokens' probabilities, choice by choice, and the right one
    ([[-0.1, -2.0, -0.7], [-1.5], [-0.2, -0.3]], 0),
    ([[-3.0], [-0.01, -0.02]], 1),
    ([[-20.0, -0.5], [-0.4, -0.4], [-0.4, -0.4], [-1e-4]], 2),
]
PARTS = [{"lm": 1.0}, {"unlikelihood": 1.0}, {"ranking": 1.0}, {"lm": 0.3, "unlikelihood": 2.0, "ranking": 0.7}]


def padded(rows: Sequence[tuple[list[list[float]], int]]) -> tuple[Tensor, Tensor, Tensor]:
    choices, tokens = max(len(row) for row, _ in rows), max(len(own) for row, _ in rows for own in row)
    logps = torch.full((len(rows), choices, tokens), -7.0, dtype=torch.float64)  # what is padded is not read
    lengths = torch.zeros(len(rows), choices, dtype=torch.long)
    for place, (row, _) in enumerate(rows):
        for number, own in enumerate(row):
            logps[place, number, : len(own)] = torch.tensor(own, dtype=torch.float64)
            lengths[place, number] = len(own)
    return logps, lengths, torch.tensor([right for _, right in rows])


def loss_of(parts: dict[str, float]) -> TFew:
    return TFew(**{**dict.fromkeys(("lm", "unlikelihood", "ranking"), 0.0), **parts})


def by_hand(row: list[list[float]], right: int, parts: dict[str, float]) -> float:
    means = [sum(own) / len(own) for own in row]
    wrong = [token for number, own in enumerate(row) if number != right for token in own]
    found = {
        "lm": -means[right],
        "unlikelihood": -sum(math.log(1 - math.exp(token)) for token in wrong) / len(wrong),
        "ranking": -means[right] + math.log(sum(math.exp(mean) for mean in means)),
    }
    return sum(weight * found[part] for part, weight in parts.items())


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_the_loss_is_the_formulas_row_by_row(parts: dict[str, float]) -> None:
    expected = sum(by_hand(row, right, parts) for row, right in ROWS)
    assert loss_of(parts)(*padded(ROWS)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_the_gradient_is_that_of_the_docstring_and_of_finite_differences(parts: dict[str, float]) -> None:
    logps, lengths, right = padded(ROWS)
    logps.requires_grad_()
    loss = loss_of(parts)
    [gradient] = torch.autograd.grad(loss(logps, lengths, right), logps)
    a, b, c = loss.lm, loss.unlikelihood, loss.ranking
    expected = torch.zeros_like(logps)
    for place, (row, good) in enumerate(ROWS):
        shares = torch.tensor([sum(own) / len(own) for own in row], dtype=torch.float64).softmax(0)
        wrong = sum(len(own) for number, own in enumerate(row) if number != good)
        for number, own in enumerate(row):
            for token, logp in enumerate(own):
                p, share = math.exp(logp), shares[number].item()
                expected[place, number, token] = (
                    -(a + c * (1 - share)) / len(own)
                    if number == good
                    else b * p / ((1 - p) * wrong) + c * share / len(own)
                )
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
    inside = torch.arange(logps.shape[2]) < lengths[:, :, None]
    assert not gradient[~inside].any()
    kept = inside & (logps < -1e-3)  # a step of finite differences leaves room to 0

    def at(values: Tensor) -> Any:
        return loss(logps.detach().masked_scatter(kept, values), lengths, right)

    assert torch.autograd.gradcheck(at, logps.detach()[kept].requires_grad_(), eps=1e-7, atol=1e-5)


def test_a_wrong_choice_that_is_certain_costs_much_and_stays_finite() -> None:
    logps, lengths, right = padded([([[-1.0], [0.0]], 0)])
    logps = logps.float().requires_grad_()
    loss = TFew()(logps, lengths, right)
    loss.backward()
    assert logps.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logps.grad).all()


def test_further_choices_that_are_not_there_change_nothing() -> None:
    first = TFew()(*padded(ROWS[:2]))
    with_more = padded(ROWS)
    assert TFew()(*(part[:2] for part in with_more)).item() == pytest.approx(first.item(), rel=1e-12)


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ValidationError, match="leaves nothing to learn"):
        loss_of({})
