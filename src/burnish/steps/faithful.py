"""Faithful: a table of answers with their passages in, a verdict on every claim out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.claims import Answered, Case, Grounded, Judged
from burnish.errors import ModelError
from burnish.evaluation.score import Scores, interval
from burnish.failures import Failure, counted, in_words
from burnish.grounding import Grounder
from burnish.retrievers import Progress
from burnish.run import write_json, write_text
from burnish.spec import dump_part
from burnish.tables import read_rows


def faithful(
    source: Path,
    out: Path,
    grounder: Grounder,
    *,
    columns: Mapping[str, str],
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Judge answers; write a line for each into `out`, and what they come to into `out`'s `.faithful.json`.

    What could not be judged stands there with its kind and its reason, is counted, and is in no mean.

    Raises:
        ModelError: nothing at all could be judged.
    """
    rows = read_rows(source, Answered, columns)
    check = grounder.load()
    judged = check([Case(row.passages, row.answer) for row in rows], progress=progress)
    failures = counted(judged)
    lines = [json.dumps(_line(row, one), ensure_ascii=False) + "\n" for row, one in zip(rows, judged, strict=True)]
    write_text(out, "".join(lines))
    kept = [(row, one) for row, one in zip(rows, judged, strict=True) if isinstance(one, Grounded)]
    if not kept:
        first = next(one.reason for one in judged if isinstance(one, Failure))
        raise ModelError(f"{grounder.kind}: not one answer could be judged, {in_words(failures, len(rows))}: {first}")
    columns_of = {
        "grounded": [one.score for _, one in kept],
        "faithful": [float(one.faithful) for _, one in kept],
    }
    found = {
        "grounder": dump_part(grounder),
        "rows": len(rows),
        "judged": len(kept),
        "failures": failures,
        "claims": sum(len(one.claims) for _, one in kept),
        "unsupported": sum(not claim.supported for _, one in kept for claim in one.claims),
        "scores": {name: _interval(name, kept, values, seed=seed) for name, values in columns_of.items()},
    }
    write_json(out.with_suffix(".faithful.json"), found)
    return found


def _interval(
    name: str, kept: Sequence[tuple[Answered, Grounded]], values: Sequence[float], *, seed: int
) -> dict[str, float]:
    ids, groups = tuple(row.id for row, _ in kept), tuple(row.group for row, _ in kept)
    return asdict(interval(Scores(name, ids, tuple(values), groups), seed=seed))


def _line(row: Answered, judged: Judged) -> dict[str, Any]:
    """Return what is written of one answer."""
    if isinstance(judged, Failure):
        return {"id": row.id, "failure": judged.kind, "reason": judged.reason}
    claims = [asdict(claim) for claim in judged.claims]
    return {"id": row.id, "score": judged.score, "faithful": judged.faithful, "claims": claims}
