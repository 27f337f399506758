"""Losses of preferences against loops written by hand, in fp64."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from burnish.losses import Answers, Loss, Prefers
from burnish.losses.bradley_terry import BradleyTerry
from burnish.losses.dpo import Dpo
from burnish.losses.dpo_norm import DpoNorm
from burnish.losses.ipo import Ipo
from burnish.losses.kto import Kto
from burnish.losses.orpo import Orpo
from burnish.losses.simpo import Simpo

Numbers = tuple[float, float, int]  # logp, reference, tokens
ROWS: list[tuple[Numbers, Numbers]] = [
    ((-12.0, -13.5, 7), (-20.0, -18.0, 11)),
    ((-3.2, -3.2, 2), (-2.9, -4.0, 3)),
    ((-140.0, -160.0, 200), (-90.0, -60.0, 150)),
    ((-0.4, -0.1, 1), (-0.7, -0.7, 1)),
]


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def _dpo(chosen: Numbers, rejected: Numbers, beta: float = 0.3) -> float:
    return -log_sigmoid(beta * (chosen[0] - chosen[1] - rejected[0] + rejected[1]))


def _smoothed(chosen: Numbers, rejected: Numbers) -> float:
    return 0.9 * _dpo(chosen, rejected) + 0.1 * _dpo(rejected, chosen)


def _robust(chosen: Numbers, rejected: Numbers) -> float:
    return (0.9 * _dpo(chosen, rejected) - 0.1 * _dpo(rejected, chosen)) / 0.8


def _a_token(one: Numbers) -> float:
    return (one[0] - one[1]) / one[2]


def _norm(chosen: Numbers, rejected: Numbers) -> float:
    return -log_sigmoid(5.0 * (_a_token(chosen) - _a_token(rejected)))


def _ipo(chosen: Numbers, rejected: Numbers) -> float:
    return (_a_token(chosen) - _a_token(rejected) - 1 / (2 * 0.2)) ** 2


def _simpo(chosen: Numbers, rejected: Numbers) -> float:
    return -log_sigmoid(2.5 / chosen[2] * chosen[0] - 2.5 / rejected[2] * rejected[0] - 0.5)


def _orpo(chosen: Numbers, rejected: Numbers) -> float:
    p, q = (math.exp(one[0] / one[2]) for one in (chosen, rejected))
    odds = (p / (1 - p)) / (q / (1 - q))
    return -chosen[0] / chosen[2] - 0.25 * math.log(odds / (1 + odds))


Formula = Callable[[Numbers, Numbers], float]
CASES: list[tuple[Any, Formula]] = [
    (Dpo(beta=0.3), _dpo),
    (Dpo(beta=0.3, label_smoothing=0.1), _smoothed),
    (Dpo(beta=0.3, label_smoothing=0.1, smoothed="robust"), _robust),
    (DpoNorm(), _norm),
    (Ipo(tau=0.2), _ipo),
    (Simpo(beta=2.5, gamma=0.5), _simpo),
    (Orpo(weight=0.25), _orpo),
]
every = pytest.mark.parametrize(("loss", "formula"), CASES, ids=lambda case: repr(case) if case in dict(CASES) else "")


def answers(side: Sequence[Numbers], dtype: torch.dtype = torch.float64) -> Answers:
    logps, reference, tokens = (torch.tensor(part, dtype=dtype) for part in zip(*side, strict=True))
    return Answers(logps.requires_grad_(), reference, tokens)


def sides(rows: Sequence[tuple[Numbers, Numbers]]) -> tuple[Answers, Answers]:
    return answers([chosen for chosen, _ in rows]), answers([rejected for _, rejected in rows])


def moved(one: Numbers, by: float) -> Numbers:
    return one[0] + by, one[1], one[2]


def slope(value: Callable[[float], float]) -> float:
    return (value(1e-5) - value(-1e-5)) / 2e-5


@every
def test_value_and_gradient_are_those_of_a_loop_written_by_hand(loss: Any, formula: Formula):
    chosen, rejected = sides(ROWS)
    value = loss(chosen, rejected)
    assert value.item() == pytest.approx(sum(formula(*row) for row in ROWS), rel=1e-12)
    value.backward()
    for place, (better, worse) in enumerate(ROWS):
        for side, want in (
            (chosen, slope(lambda by, b=better, w=worse: formula(moved(b, by), w))),  # type: ignore[misc]
            (rejected, slope(lambda by, b=better, w=worse: formula(b, moved(w, by)))),  # type: ignore[misc]
        ):
            assert side.logps.grad is not None
            assert side.logps.grad[place].item() == pytest.approx(want, abs=1e-6)


@every
def test_the_sum_is_that_of_its_rows_in_any_order(loss: Any, formula: Formula):
    parts = [loss(*sides([row])).item() for row in ROWS]
    assert sum(parts) == pytest.approx(loss(*sides(ROWS[::-1])).item(), rel=1e-12)


@every
def test_extremes_are_finite(loss: Any, formula: Formula):
    far: list[tuple[Numbers, Numbers]] = [
        ((-1e5, 0.0, 3), (0.0, -1e5, 900)),
        ((0.0, -1e5, 1), (-1e5, 0.0, 1)),
        ((0.0, 0.0, 1), (0.0, 0.0, 1)),
        ((-1e-30, 0.0, 5), (-1e4, 0.0, 1)),
    ]
    for dtype in (torch.float32, torch.float64):
        chosen, rejected = answers([row[0] for row in far], dtype), answers([row[1] for row in far], dtype)
        value = loss(chosen, rejected)
        value.backward()
        for number in (value, chosen.logps.grad, rejected.logps.grad):
            assert number is not None
            assert number.isfinite().all()


@every
def test_a_pair_with_the_higher_reward_is_in_the_right_order_for_the_loss(loss: Any, formula: Formula):
    chosen, rejected = (answers([(-5.0, -6.0, 4)]), answers([(-9.0, -6.0, 4)]))
    assert loss.rewards(chosen) > loss.rewards(rejected)
    assert loss(chosen, rejected) < loss(rejected, chosen)


def test_every_loss_of_preferences_is_tested_here():
    found = {name for name in Loss.names() if issubclass(Loss.named(name), Prefers)}
    assert found == {loss.kind for loss, _ in CASES}


def test_robustness_without_wrong_labels_is_refused():
    with pytest.raises(ValidationError, match="robust needs label_smoothing above 0"):
        Dpo(smoothed="robust")


def test_smoothing_has_its_least_loss_where_the_odds_are_those_of_right_labels():
    best = math.log(0.9 / 0.1) / 0.3
    chosen, rejected = answers([(best, 0.0, 1)]), answers([(0.0, 0.0, 1)])
    Dpo(beta=0.3, label_smoothing=0.1)(chosen, rejected).backward()
    assert chosen.logps.grad is not None
    assert chosen.logps.grad.item() == pytest.approx(0, abs=1e-12)


def test_robust_is_in_expectation_over_flipped_labels_the_loss_without_any():
    loss, plain = Dpo(label_smoothing=0.2, smoothed="robust"), Dpo()
    chosen, rejected = sides(ROWS)
    mixed = 0.8 * loss(chosen, rejected) + 0.2 * loss(rejected, chosen)
    assert mixed.item() == pytest.approx(plain(chosen, rejected).item(), rel=1e-12)


KTO = Kto(beta=0.2, good_weight=1.5, bad_weight=0.7)
OWN: list[Numbers] = [row[0] for row in ROWS]
OTHERS: list[Numbers] = [(-9.0, -11.0, 4), (-5.0, -4.0, 3), (-7.0, -10.0, 2), (-1.0, -2.0, 1)]
GOOD = torch.tensor([True, False, False, True])


def by_hand(own: Sequence[Numbers], others: Sequence[Numbers]) -> float:
    zero = max(0.0, sum(logp - before for logp, before, _ in others) / len(others))
    total = 0.0
    for (logp, before, _), good in zip(own, GOOD.tolist(), strict=True):
        gap = 0.2 * (logp - before - zero)
        value = 1 / (1 + math.exp(-gap)) if good else 1 / (1 + math.exp(gap))
        total += (1.5 if good else 0.7) * (1 - value)
    return total


@pytest.mark.parametrize("others", [OTHERS, [(-9.0, -1.0, 4)] * 4], ids=["above zero", "held at zero"])
def test_kto_is_a_loop_written_by_hand_and_its_baseline_has_no_gradient(others: list[Numbers]):
    own, mismatched = answers(OWN), answers(others)
    value = KTO(own, GOOD, mismatched)
    assert value.item() == pytest.approx(by_hand(OWN, others), rel=1e-12)
    value.backward()
    assert mismatched.logps.grad is None
    assert own.logps.grad is not None
    for place in range(len(OWN)):
        want = slope(lambda by, place=place: by_hand([*OWN[:place], moved(OWN[place], by), *OWN[place + 1 :]], others))
        assert own.logps.grad[place].item() == pytest.approx(want, abs=1e-6)


def test_kto_is_finite_at_extremes():
    own, far = answers([(-1e6, 0.0, 1), (0.0, -1e6, 1)]), answers([(0.0, -1e6, 1), (0.0, -1e6, 1)])
    KTO(own, torch.tensor([True, False]), far).backward()
    assert own.logps.grad is not None
    assert own.logps.grad.isfinite().all()


@pytest.mark.parametrize("center", [0.0, 0.1])
def test_bradley_terry_is_a_loop_written_by_hand(center: float):
    loss = BradleyTerry(center=center)
    chosen, rejected, margins = [1.5, -0.3, 4.0], [0.2, 0.9, -7.0], [0.0, 0.5, 2.0]

    def formula(better: float, worse: float, margin: float) -> float:
        return -log_sigmoid(better - worse - margin) + center * (better + worse) ** 2

    ours: list[Tensor] = [torch.tensor(side, dtype=torch.float64, requires_grad=True) for side in (chosen, rejected)]
    value = loss(*ours, torch.tensor(margins, dtype=torch.float64))
    assert value.item() == pytest.approx(sum(map(formula, chosen, rejected, margins)), rel=1e-12)
    value.backward()
    for place, row in enumerate(zip(chosen, rejected, margins, strict=True)):
        assert ours[0].grad is not None
        want = slope(lambda by, row=row: formula(row[0] + by, *row[1:]))  # type: ignore[misc]
        assert ours[0].grad[place].item() == pytest.approx(want, abs=1e-6)


def test_bradley_terry_is_finite_at_extremes():
    scores = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    BradleyTerry()(scores, -scores, torch.zeros(3)).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


# Of ROWS, by TRL 1.16 in fp64: DPOTrainer._compute_loss (loss types sigmoid, robust, sigmoid_norm and ipo),
# CPOTrainer.cpo_loss (simpo), ORPOTrainer.odds_ratio_loss and the mean over the chosen answer (it computes in fp32),
# called with a network that gives every token of an answer the mean of these log-probabilities.
BY_TRL: list[tuple[Any, list[float]]] = [
    (Dpo(beta=0.3), [0.30005847961764304, 0.8716983585938614, 3.059022737137232e-07, 0.73915933902561]),
    (
        Dpo(beta=0.3, label_smoothing=0.1, smoothed="robust"),
        [0.16880847961764292, 0.9129483585938614, -1.8749996940977254, 0.75040933902561],
    ),
    (DpoNorm(beta=5.0), [0.12927016668441202, 1.9816496659051164, 0.20141327798275258, 1.7014132779827527]),
    (Ipo(tau=0.2), [4.426378815989204, 8.217777777777778, 4.840000000000001, 7.839999999999999]),
    (Simpo(beta=2.5, gamma=0.5), [0.8204753551078253, 2.2006846948933023, 1.1368710061148999, 0.5759394198788437]),
    (Orpo(weight=0.25), [1.872395634651184, 1.9078786373138428, 0.9008473753929138, 0.4988793730735779]),
]


@pytest.mark.parametrize(("loss", "wanted"), BY_TRL, ids=lambda case: repr(case) if isinstance(case, Loss) else "")
def test_rows_cost_what_they_cost_in_trl(loss: Any, wanted: list[float]):
    assert [loss(*sides([row])).item() for row in ROWS] == pytest.approx(wanted, rel=1e-6)


# The same by KTOTrainer._compute_loss: four times its mean over these rows, and the z0 that it logs.
@pytest.mark.parametrize(
    ("mismatched", "total", "baseline"),
    [(0, 1.4157167576260252, 5.3), (1, 1.3697622239776788, 0.0)],
    ids=["above 0", "below 0"],
)
def test_thumbs_cost_what_they_cost_in_trl(mismatched: int, total: float, baseline: float):
    loss, good = Kto(beta=0.3, good_weight=1.5, bad_weight=0.8), torch.tensor([True, False, True, False])
    rows, others = answers([row[0] for row in ROWS]), answers([row[mismatched] for row in ROWS])
    assert loss(rows, good, others).item() == pytest.approx(total, rel=1e-9)
    assert loss.baseline(others).item() == pytest.approx(0.3 * baseline, rel=1e-9, abs=1e-12)
