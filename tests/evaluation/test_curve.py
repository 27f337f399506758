"""The power law, its extrapolation, and the answer that is drawn from them."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from burnish.evaluation.curve import Doubling, answer, doubling, power_law, resampled, statistics
from burnish.evaluation.task import Evaluated
from burnish.metrics import Metric
from burnish.metrics.accuracy import Accuracy
from burnish.metrics.bertscore import Bertscore
from burnish.metrics.f1 import F1
from burnish.metrics.rmse import Rmse

SIZES = [100, 250, 500, 1000]
FLAT = {"difference": 0.0, "low": -0.01, "high": 0.01, "p": 1.0}
RISES = {"difference": 0.02, "low": 0.01, "high": 0.03, "p": 0.001}
FALLS = {"difference": -0.02, "low": -0.03, "high": -0.01, "p": 0.001}


def law(end: float, slope: float, exponent: float) -> np.ndarray:
    return end + slope * (np.array(SIZES) / SIZES[-1]) ** -exponent


def noisy(values: np.ndarray, spread: float) -> np.ndarray:
    """Return resamples around the values, each point with an error of its own."""
    return values + np.random.default_rng(0).normal(0, spread, size=(400, len(values)))


def test_the_law_is_found_again_and_agrees_with_least_squares_by_scipy() -> None:
    values = np.stack([law(0.9, -0.05, 0.5), law(0.8, 0.02, 1.0), noisy(law(0.9, -0.05, 0.5), 0.002)[0]])
    end, slope, exponent, squares = power_law(SIZES, values, lowest=0.0, highest=1.0)
    gains = slope * (2**-exponent - 1)
    assert gains[0] == pytest.approx(0.05 * (1 - 2**-0.5), abs=2e-4)
    assert gains[1] == pytest.approx(-0.01, abs=2e-4)  # a curve that falls goes on falling
    assert squares[:2] == pytest.approx(0.0, abs=1e-6)
    x = np.array(SIZES) / SIZES[-1]
    (a, b, c), _ = curve_fit(lambda n, a, b, c: a + b * n**-c, x, values[2], p0=(0.9, -0.05, 0.5))
    assert gains[2] == pytest.approx(b * (2**-c - 1), abs=5e-4)
    assert end[2] + slope[2] == pytest.approx(a + b, abs=5e-4)


def test_the_law_leads_nowhere_beyond_the_metrics_bounds() -> None:
    end, slope, exponent, _ = power_law(SIZES, np.array([[0.6, 0.75, 0.88, 0.999]]), lowest=0.0, highest=1.0)
    assert end[0] <= 1.0
    assert end[0] + slope[0] * 2 ** -exponent[0] <= 1.0


@pytest.mark.parametrize("metric", [Accuracy(), F1()])
@pytest.mark.parametrize("groups", [[""] * 12, [f"g{row // 3}" for row in range(12)]])
def test_all_systems_are_scored_on_the_same_resamples(metric: Metric, groups: list[str]) -> None:
    draw = np.random.default_rng(3)
    references = draw.choice(["a", "b", "c"], 12).tolist()
    systems = [draw.choice(["a", "b", "c"], 12).tolist() for _ in range(2)]
    parts = [metric.statistics(said, references) for said in systems]
    found = resampled(metric, parts, groups=groups, seed=5, resamples=30)
    names = list(dict.fromkeys(group or str(row) for row, group in enumerate(groups)))
    members = {name: [row for row, group in enumerate(groups) if (group or str(row)) == name] for name in names}
    drawn = np.random.Generator(np.random.PCG64(5)).integers(len(names), size=(30, len(names)))
    for line, row in zip(drawn, found, strict=True):
        rows = [member for place in line for member in members[names[place]]]
        for said, value in zip(systems, row, strict=True):
            assert value == pytest.approx(metric.value([said[r] for r in rows], [references[r] for r in rows]))


def test_scores_that_were_kept_count_as_they_are() -> None:
    metric = Bertscore()
    kept = Evaluated({metric.label: [0.5, 1.0], "answers": ["x", "y"]}, {})
    assert metric.combine(statistics(metric, kept, ["x", "y"]).sum(axis=0)) == pytest.approx(0.75)
    plain = Evaluated({"answers": ["x", "y"]}, {})
    assert Accuracy().combine(statistics(Accuracy(), plain, ["x", "z"]).sum(axis=0)) == pytest.approx(0.5)


def test_doubling_has_the_laws_gain_and_an_interval_around_it() -> None:
    values = law(0.9, -0.05, 0.5)
    more = doubling(Accuracy(), SIZES, values.tolist(), noisy(values, 0.003), RISES)
    assert not more.why
    assert more.change == pytest.approx(0.0146, abs=5e-4)
    assert 0 < more.low < more.change < more.high < 0.03
    assert more.at(1.0) == pytest.approx(values[-1], abs=1e-4)
    assert more.at(2.0) - more.at(1.0) == pytest.approx(more.change)


def test_where_lower_is_better_doubling_lowers() -> None:
    values = 1.0 - law(0.9, -0.05, 0.5)
    more = doubling(Rmse(), SIZES, values.tolist(), noisy(values, 0.003), FALLS)
    assert more.change == pytest.approx(-0.0146, abs=5e-4)
    assert more.low < more.change < more.high < 0
    word, sentence = answer(Rmse(), SIZES, values.tolist(), FALLS, more)
    assert word == "Yes"
    assert "doubling the rows would change it by about -0.015" in sentence


def test_points_that_stray_widen_the_interval_and_then_take_it_away() -> None:
    values = law(0.9, -0.05, 0.5)
    draws = noisy(values, 0.003)
    smooth, bent, broken = (
        doubling(Accuracy(), SIZES, (values + by * np.array([1, -1, 1, -1])).tolist(), draws, RISES)
        for by in (0.0, 0.0025, 0.03)
    )
    assert bent.high - bent.low > smooth.high - smooth.low
    assert not bent.why
    assert "the points stray from a power law by 0.0" in broken.why


def test_what_is_not_identified_is_said() -> None:
    values = law(0.9, -0.05, 0.5)
    few = doubling(Accuracy(), SIZES[1:], values[1:].tolist(), noisy(values, 0.003)[:, 1:], RISES)
    assert few.why == "a power law needs at least 4 points, and there are 3"
    holes = noisy(values, 0.003)
    holes[:40] = np.nan
    assert "is not defined on 40 of 400 resamples" in doubling(Accuracy(), SIZES, values.tolist(), holes, RISES).why
    word, sentence = answer(Accuracy(), SIZES, values.tolist(), FLAT, few)
    assert word == "Unclear"
    assert sentence.endswith("cannot be told: a power law needs at least 4 points, and there are 3.")


def test_a_curve_at_the_top_has_no_room_and_one_that_never_moves_no_certainty() -> None:
    top = doubling(Accuracy(), SIZES, [1.0] * 4, np.ones((400, 4)), FLAT)
    assert (top.change, top.high) == (0.0, 0.0)
    assert answer(Accuracy(), SIZES, [1.0] * 4, FLAT, top)[0] == "No"
    still = doubling(Accuracy(), SIZES, [0.6] * 4, np.full((400, 4), 0.6), {**FLAT, "low": -0.1, "high": 0.1})
    assert (still.low, still.high) == (-0.1, 0.1)
    assert answer(Accuracy(), SIZES, [0.6] * 4, FLAT, still)[0] == "Unclear"


@pytest.mark.parametrize(
    ("gap", "more", "word", "part"),
    [
        (RISES, Doubling(0.03, 0.01, 0.05), "Yes", "about +0.030, and anything from +0.010 to +0.050 fits"),
        (RISES, Doubling(0.01, -0.01, 0.03), "Probably", "nothing at all fits the points as well"),
        (RISES, Doubling(why="so"), "Probably", "cannot be told: so."),
        (RISES, Doubling(0.005, 0.001, 0.01), "Hardly", "next to nothing, +0.010 at best"),
        (FLAT, Doubling(0.03, 0.01, 0.05), "Probably", "about +0.030"),
        (FLAT, Doubling(0.0, -0.03, 0.03), "Unclear", "anything from -0.030 to +0.030"),
        (FLAT, Doubling(0.0, -0.01, 0.01), "No", "next to nothing"),
        ({**FLAT, "difference": -0.01}, Doubling(0.03, 0.01, 0.05), "Unclear", "about +0.030"),
        ({**FLAT, "difference": 0.03}, Doubling(0.0, -0.01, 0.01), "Unclear", "next to nothing"),
        (FALLS, Doubling(-0.01, -0.02, -0.005), "No", "next to nothing"),
        (FALLS, Doubling(why="so"), "No", "cannot be told: so."),
    ],
)
def test_the_answer_weighs_the_last_step_and_the_outlook(gap: Any, more: Doubling, word: str, part: str) -> None:
    found, sentence = answer(Accuracy(), SIZES, [0.6, 0.7, 0.75, 0.77], gap, more)
    assert found == word
    assert sentence.startswith(f"{word}: from 500 to 1,000 training rows accuracy went from 0.750 to 0.770, ")
    assert part in sentence
