"""Distil: prompts in, training rows with a teacher's answers out; each is written once, and kept with who wrote it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import DataError, RunError
from burnish.generators import Generator
from burnish.models.precision import device_words
from burnish.prepare.synthesize import sample
from burnish.records import Completion, Message, Prompt, Rejected, dump_jsonl, records_fingerprint
from burnish.retrievers import Progress
from burnish.run import checksum, locked, read_json, versions, write_json, write_text
from burnish.spec import dump_part
from burnish.steps.fingerprints import part_fingerprint
from burnish.steps.train import Say
from burnish.tables import columns_of, read_rows
from burnish.text import fingerprint

BLOCK = 32  # prompts answered at a time: what a kill loses at most
EMPTY = "the teacher's answer is empty"


def distill(
    source: Path,
    out: Path,
    teacher: Generator,
    *,
    columns: Mapping[str, str] = {},
    limit: int | None = None,
    seed: int = 0,
    say: Say,
    progress: Progress,
) -> dict[str, Any]:
    """Have the teacher answer the prompts of a table; return what NAME.distill.json holds: the teacher, the counts.

    source: rows of prompts, of prompts and completions, or in any form of `chat_forms`; known answers stay in `others`,
    as further right ones. Plain prompts are put to the teacher as a user's message. limit: rows, drawn at random; None:
    all. Answers stay in the folder NAME.written: the same command, killed or with more rows behind, goes on from there.
    Prompts without an answer go to NAME.rejected.jsonl.

    Raises:
        RunError: something stands at OUT that this did not write.
        DataError: the rows cannot be read, or the teacher answered none.
    """
    work = out.with_suffix(".written")
    with locked(work):
        _require_ours(out, work)
        began = time.perf_counter()
        rows = sample(_prompts(source, columns), limit, seed=seed)
        say(f"{len(rows)} prompts, answered by {teacher.kind}")
        texts = _answers(rows, teacher, work, progress)
        found = [_completion(row, text) for row, text in zip(rows, texts, strict=True) if text]
        rejected = [Rejected(reason=EMPTY, id=row.id) for row, text in zip(rows, texts, strict=True) if not text]
        if not found:
            raise DataError(f"{source}: the teacher answered none of the {len(rows)} prompts ({EMPTY})")
        told: dict[str, Any] = {
            "teacher": dump_part(teacher),
            "counts": {"prompts": len(rows), "rows": len(found), "left out": dict(Counter(r.reason for r in rejected))},
            "words": sum(len(text.split()) for text in texts) / len(found),
            "fingerprints": {"rows": records_fingerprint(rows), "teacher": part_fingerprint(teacher)},
            "seconds": time.perf_counter() - began,
            "device": device_words(),
            "versions": versions(),
        }
        write_text(out.with_suffix(".rejected.jsonl"), dump_jsonl(rejected))
        write_text(work / "rows.jsonl", dump_jsonl(found))
        write_text(out, dump_jsonl(found))
        write_json(out.with_suffix(".distill.json"), told)
        return told


def _prompts(source: Path, columns: Mapping[str, str]) -> list[Prompt]:
    """Return the prompts of a table, with the answers that are known."""
    if "completion" not in {*columns, *columns_of(source)}:
        return [*read_rows(source, Prompt, columns)]
    return [
        Prompt(id=row.id, group=row.group, prompt=row.prompt, answers=(row.completion, *row.others))
        for row in read_rows(source, Completion, columns)
    ]


def _answers(rows: Sequence[Prompt], teacher: Generator, work: Path, progress: Progress) -> list[str]:
    """Return the teacher's answer to each prompt; those that a file holds already are read."""
    kept = work / fingerprint(part_fingerprint(teacher), str(BLOCK))
    writer, texts = None, []
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        path = kept / f"{records_fingerprint(block)}.json"
        if not path.is_file():
            writer = writer or teacher.load()
            write_json(
                path,
                writer.write(
                    [_messages(row) for row in block],
                    done=lambda done, first=first: progress("answering", first + done, len(rows)),  # type: ignore[misc]
                ),
            )
        texts += [text.strip() for text in read_json(path)]
    return texts


def _messages(row: Prompt) -> Sequence[Message]:
    return (Message(role="user", content=row.prompt),) if isinstance(row.prompt, str) else row.prompt


def _completion(row: Prompt, text: str) -> Completion:
    return Completion(id=row.id, group=row.group, prompt=row.prompt, completion=text, others=row.answers)


def _require_ours(out: Path, work: Path) -> None:
    """Check that nothing is overwritten but rows that were written here and nobody changed.

    Raises:
        RunError: something else stands there.
    """
    ours = work / "rows.jsonl"
    if not out.exists() or (out.is_file() and ours.is_file() and checksum(out) == checksum(ours)):
        return
    raise RunError(
        f"{out}: what stands here was not written by `burnish distill`, or was changed since; name another --out"
    )
