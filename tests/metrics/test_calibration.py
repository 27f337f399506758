import numpy as np
import pytest

from burnish.errors import DataError
from burnish.metrics import Guess, Metric
from burnish.metrics.calibration import Calibration


def brute_force(guesses: list[Guess], right: list[str], bins: int) -> float:
    found = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        held = [
            (guess, true)
            for guess, true in zip(guesses, right, strict=True)
            if low < guess.probability <= high or (place == 0 and guess.probability == 0)
        ]
        if held:
            accuracy = sum(guess.label == true for guess, true in held) / len(held)
            stated = sum(guess.probability for guess, _ in held) / len(held)
            found += len(held) / len(guesses) * abs(accuracy - stated)
    return found


@pytest.mark.parametrize(("bins", "size"), [(15, 400), (15, 3), (10, 100), (1, 20)])
def test_it_equals_a_brute_force(bins, size):
    random = np.random.default_rng(size)
    guesses = [
        Guess(str(label), float(p)) for label, p in zip(random.integers(3, size=size), random.random(size), strict=True)
    ]
    right = [str(label) for label in random.integers(3, size=size)]
    assert Calibration(bins=bins).value(guesses, right) == pytest.approx(brute_force(guesses, right, bins), abs=1e-12)


def test_probabilities_on_an_edge_belong_to_the_bin_below():
    guesses = [Guess("a", place / 15) for place in range(16)]
    right = ["a" if place % 3 else "b" for place in range(16)]
    assert Calibration().value(guesses, right) == pytest.approx(brute_force(guesses, right, 15), abs=1e-12)
    counts = Calibration().statistics(guesses, right).sum(axis=0)[:15]
    assert counts.tolist() == [2.0] + [1.0] * 14


def test_a_model_that_is_right_as_often_as_it_says_scores_zero_and_an_overconfident_one_the_gap():
    right = ["a", "a", "a", "b"]
    assert Calibration().value([Guess("a", 0.75)] * 4, right) == pytest.approx(0.0, abs=1e-12)
    assert Calibration().value([Guess("a", 1.0)] * 4, right) == pytest.approx(0.25)
    assert Calibration().value([Guess("a", 1.0)] * 2, ["a", "a"]) == 0.0


@pytest.mark.parametrize("probability", [1.01, -0.1, float("nan")])
def test_what_is_no_probability_is_named_by_its_place(probability):
    with pytest.raises(DataError, match=rf"ECE: the probability of prediction 2 of 2 is {probability}; a number from"):
        Calibration().statistics([Guess("a", 0.5), Guess("a", probability)], ["a", "a"])


def test_lower_is_better_and_its_label_names_unusual_bins():
    assert not Calibration.higher_is_better
    assert Metric.read("calibration").label == "ECE"
    assert Metric.read({"kind": "calibration", "bins": 10}).label == "ECE (10 bins)"
    assert Calibration().statistics([], []).shape == (0, 30)
