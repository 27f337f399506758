import pytest

from burnish.evaluation.outcome import outcome, sentence
from burnish.evaluation.verdict import all_better, verdict


def gain(difference: float, low: float, high: float, p: float) -> dict[str, float]:
    return {"difference": difference, "low": low, "high": high, "p": p}


@pytest.mark.parametrize(
    ("found", "higher", "said"),
    [
        (gain(0.1, 0.05, 0.15, 0.001), True, "better"),
        (gain(0.1, 0.05, 0.15, 0.001), False, "worse"),
        (gain(-0.1, -0.15, -0.05, 0.001), True, "worse"),
        (gain(-0.1, -0.15, -0.05, 0.001), False, "better"),
        (gain(0.1, -0.01, 0.2, 0.04), True, "not better"),
        (gain(0.1, 0.0, 0.2, 0.04), True, "not better"),
        (gain(0.1, 0.01, 0.2, 0.06), True, "not better"),
        (gain(0.0, 0.0, 0.0, 1.0), True, "not better"),
    ],
)
def test_chance_is_told_from_a_difference(found: dict[str, float], higher: bool, said: str) -> None:
    assert outcome(found, higher_is_better=higher) == said


def test_what_was_found_is_said_with_its_reason() -> None:
    better = {**gain(0.06, 0.021, 0.1, 0.0003), "n": 200}
    assert sentence("nDCG@10", better, "better", than="base") == (
        "Better than base: nDCG@10 +0.060 [+0.021, +0.100], p 0.0003 on 200 rows."
    )
    unsure = {**gain(0.003, -0.01, 0.016, 0.61), "n": 1200}
    assert sentence("nDCG@10", unsure, "not better", than="base") == (
        "Not better than base by more than chance explains: nDCG@10 +0.003 [-0.010, +0.016], p 0.6100 on 1,200 rows; "
        "the interval holds zero."
    )
    edge = {**gain(0.1, 0.01, 0.2, 0.06), "n": 6}
    assert sentence("F1", edge, "not better", than="base").endswith("p 0.0600 on 6 rows; p is not below 0.05.")


def test_rungs_that_are_not_better_are_named() -> None:
    rows = [
        {"rung": "tuned", "name": "dense", "metric": "nDCG@10", **gain(0.1, 0.05, 0.15, 0.001)},
        {"rung": "hybrid", "name": "tuned", "metric": "nDCG@10", **gain(0.01, -0.05, 0.15, 0.4)},
    ]
    assert verdict(rows) == (
        "tuned pays: +0.100 nDCG@10 against dense [+0.050, +0.150]. Not better by more than chance explains: hybrid "
        "over tuned."
    )
    assert verdict(rows[1:]).startswith("No rung is better than its comparison by more than chance explains")
    assert (all_better(rows[:1]), all_better(rows)) == (True, False)
    assert not all_better([{**rows[0], "difference": -0.1}])
