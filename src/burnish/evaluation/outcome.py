"""Before against after in words: better, worse, or not better by more than chance explains."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from burnish.evaluation.compare import gap_text
from burnish.evaluation.verdict import LIKELY

Outcome: TypeAlias = Literal["better", "worse", "not better"]


def outcome(gain: Mapping[str, float], *, higher_is_better: bool) -> Outcome:
    """Return what a paired difference (ours minus theirs) says.

    gain: `difference`, the bounds `low` and `high` of its 95 % interval, and its `p`. Where the interval holds zero, or
    p is not below 0.05, chance alone may be what differs.
    """
    if gain["low"] <= 0 <= gain["high"] or gain["p"] >= LIKELY:
        return "not better"
    return "better" if (gain["difference"] > 0) == higher_is_better else "worse"


def sentence(metric: str, gain: Mapping[str, float], found: Outcome, *, than: str) -> str:
    """Say what was found of a metric against the model `than`."""
    rows = f"p {gain['p']:.4f} on {gain['n']:,} rows"
    if found != "not better":
        return f"{found.capitalize()} than {than}: {metric} {gap_text(gain)}, {rows}."
    why = "the interval holds zero" if gain["low"] <= 0 <= gain["high"] else "p is not below 0.05"
    return f"Not better than {than} by more than chance explains: {metric} {gap_text(gain)}, {rows}; {why}."
