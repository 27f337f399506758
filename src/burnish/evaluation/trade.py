"""What a method costs and what it reaches, as a table's rows and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.evaluation.plots import scatter_file
from burnish.run import write_text

HEADINGS = ("method", "score", "trained", "seconds", "peak MB", "MB on disk")


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a method's row as text; a refused one says why instead of a score."""
    if "refused" in row:
        return [row["method"], row["refused"], "", "", "", ""]
    spread = f" (seeds {min(row['seeds']):.3f}–{max(row['seeds']):.3f})" if len(row["seeds"]) > 1 else ""
    score = f"{row['metric']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{spread}"
    return [
        row["method"],
        score,
        f"{row['trainable']:,}",
        f"{row['seconds']:.0f}",
        f"{row['peak_mb']:,.0f}",
        f"{row['adapter_mb']:.2f}",
    ]


def write_picture(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw score against trainable weights, with intervals."""
    points = [
        (row["trainable"], row["value"], row["low"], row["high"], row["method"]) for row in rows if row.get("trainable")
    ]
    if points:
        metric = next(row["metric"] for row in rows if "refused" not in row)
        write_text(path, scatter_file(points, across="trainable weights", up=metric))
