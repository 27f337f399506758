"""The ladder as numbers with intervals, and the sentence that says which rung pays."""

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.evaluation.compare import compare, holm
from burnish.evaluation.measure import Measured
from burnish.evaluation.score import interval

LIKELY = 0.05  # a difference whose corrected p-value is not below this is not called one


def rung_scores(measured: Measured, *, seed: int) -> dict[str, dict[str, float]]:
    """Return value, bounds of the 95 % interval and number of questions for each metric of a rung."""
    found = {label: interval(scores, seed=seed) for label, scores in measured.scores.items()}
    return {label: {"value": i.value, "low": i.low, "high": i.high, "n": i.n} for label, i in found.items()}


def comparisons(
    pairs: Sequence[tuple[str, str]], measured: Mapping[str, Measured], *, seed: int
) -> list[dict[str, Any]]:
    """Compare rungs on their first metric, paired by question; p-values are corrected over all pairs (Holm 1979)."""
    rows: list[dict[str, Any]] = []
    for ours, theirs in pairs:
        metric = next(iter(measured[ours].scores))
        found = compare(measured[ours].scores[metric], measured[theirs].scores[metric], seed=seed)
        rows.append(
            {
                "rung": ours,
                "name": theirs,
                "metric": metric,
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "p": found.p,
                "wins": found.wins,
                "losses": found.losses,
            }
        )
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p"] = corrected
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which of the compared rungs pay, best gain first, and which do not."""
    told = [_said(row) for row in sorted(rows, key=lambda row: -row["difference"]) if row["p"] < LIKELY]
    unsure = [f"{row['rung']} over {row['name']}" for row in rows if row["p"] >= LIKELY]
    if not told:
        return (
            "No rung is better than its comparison by more than chance explains on these questions, and none is worse."
        )
    tail = f" Not better by more than chance explains: {'; '.join(unsure)}." if unsure else ""
    return " ".join(told) + tail


def all_better(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether every compared rung is better than the other by more than chance explains."""
    return all(row["difference"] > 0 and row["p"] < LIKELY for row in rows)


def _said(row: Mapping[str, Any]) -> str:
    pays = "pays" if row["difference"] > 0 else "costs"
    return (
        f"{row['rung']} {pays}: {row['difference']:+.3f} {row['metric']} against {row['name']} "
        f"[{row['low']:+.3f}, {row['high']:+.3f}]."
    )
