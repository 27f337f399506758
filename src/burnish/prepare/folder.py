"""The folder of a prepared corpus: written whole, and checked when opened."""

import json
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from burnish.errors import DataError
from burnish.prepare.corpus import SIDES, Card, Prepared
from burnish.prepare.leaks import Leak
from burnish.records import Chunk, Question, Rejected, dump_jsonl, raise_faults, read_jsonl
from burnish.run import new_folder
from burnish.spec import Spec

_FINGERPRINTS = "fingerprints.json"
_FILES = ("chunks.jsonl", "train.jsonl", "dev.jsonl", "test.jsonl", "rejected.jsonl", "card.json", "card.md")

R = TypeVar("R", bound=Spec)


def save(prepared: Prepared, folder: Path) -> None:
    """Write the corpus as a folder, whole or not at all; a corpus that stands there is replaced.

    Raises:
        DataError: something else stands there, or the folder cannot be written.
    """
    if folder.exists() and not (folder / _FINGERPRINTS).is_file() and not _empty(folder):
        raise DataError(f"{folder}: this is not a prepared corpus, and is not overwritten. Name another folder")
    card = prepared.card | {
        "leaks": [[leak.ours, leak.theirs, leak.kind, leak.similarity] for leak in prepared.leaks],
        "near_duplicates": [list(found) for found in prepared.near_duplicates],
    }
    texts = {
        "chunks.jsonl": dump_jsonl(prepared.chunks),
        "train.jsonl": dump_jsonl(prepared.train),
        "dev.jsonl": dump_jsonl(prepared.dev),
        "test.jsonl": dump_jsonl(prepared.test),
        "rejected.jsonl": dump_jsonl(prepared.rejected),
        "card.json": json.dumps(card, indent=2, ensure_ascii=False) + "\n",
        "card.md": card_text(prepared.card),
    }
    blobs = {name: text.encode() for name, text in texts.items()}
    prints = {name: sha256(blob).hexdigest() for name, blob in blobs.items()}
    blobs[_FINGERPRINTS] = (json.dumps(prints, indent=2) + "\n").encode()
    try:
        with new_folder(folder) as beside:
            for name, blob in blobs.items():
                (beside / name).write_bytes(blob)
    except OSError as error:
        raise DataError(
            f"{folder}: the corpus cannot be written: {error.strerror or error}. Free the place, or name another folder"
        ) from error


def open_prepared(folder: Path) -> Prepared:
    """Read a corpus that `save` wrote.

    Raises:
        DataError: the folder or a file is missing, or a file is not as it was written; all such files are named.
    """
    _check(folder)
    card: Card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    found = [Leak(ours, theirs, kind, similarity) for ours, theirs, kind, similarity in card.pop("leaks")]
    return Prepared(
        chunks=_rows(folder / "chunks.jsonl", Chunk),
        train=_rows(folder / "train.jsonl", Question),
        dev=_rows(folder / "dev.jsonl", Question),
        test=_rows(folder / "test.jsonl", Question),
        rejected=_rows(folder / "rejected.jsonl", Rejected),
        leaks=found,
        near_duplicates=[tuple(ids) for ids in card.pop("near_duplicates")],
        card=card,
    )


def card_text(card: Card) -> str:
    """Return the data card as Markdown."""
    lines = [f"# {card['name']}", "", f"{card['passages']:,} passages. Seed {card['seed']}.", ""]
    lines += ["| side | share | questions | groups |", "|---|---|---|---|"]
    lines += [
        f"| {side} | {card['shares'].get(side, 0):.2f} | {card['questions'][side]:,} | {card['groups'][side]:,} |"
        for side in SIDES
    ]
    lines += ["", "| length in words | least | half | p90 | p99 | most |", "|---|---|---|---|---|---|"]
    for what in ("passage", "question"):
        lines.append(f"| {what} | " + " | ".join(f"{n:,}" for n in card[f"words_per_{what}"].values()) + " |")
    lines += [
        "",
        f"Near-duplicate passages: {card['near_duplicate_pairs']:,} pairs in {card['near_duplicate_clusters']:,} "
        f"clusters, {card['near_duplicate_pairs_across_groups']:,} pairs across groups. "
        f"Components that the split kept whole: {card['components']:,}, the largest with "
        f"{card['largest_component']:.1%} of the questions.",
        f"Leaks between sides: {card['leaks_cleared']:,} questions rejected for them; "
        f"{card['leaks_left']:,} found between test and the other sides afterwards.",
        "",
        "| left out because | rows |",
        "|---|---|",
    ]
    lines += [f"| {reason} | {rows:,} |" for reason, rows in card["rejected"].items()]
    return "\n".join(lines) + "\n"


def _check(folder: Path) -> None:
    """Compare every file with its fingerprint.

    Raises:
        DataError: a file is missing or was changed.
    """
    path = folder / _FINGERPRINTS
    if not path.is_file():
        raise DataError(f"{folder}: this is not a prepared corpus: {_FINGERPRINTS} is missing. Prepare it first")
    try:
        prints = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: this is not JSON: {error}. Prepare the corpus again") from error
    bad = []
    for name in _FILES:
        file = folder / name
        if not file.is_file():
            bad.append(f"{file}: this file is missing. Prepare the corpus again")
        elif sha256(file.read_bytes()).hexdigest() != prints.get(name):
            bad.append(f"{file}: this file was changed after it was written. Prepare the corpus again")
    raise_faults(bad)


def _rows(path: Path, record: type[R]) -> list[R]:
    """Return a file's rows; a side without questions is an empty file."""
    return read_jsonl(path, record) if path.stat().st_size else []


def _empty(folder: Path) -> bool:
    """Tell whether this is a folder that holds nothing."""
    return folder.is_dir() and not any(folder.iterdir())
