"""Synthesize: training rows from passages that nobody has labelled, by questions that a model writes or by crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.errors import DataError
from burnish.generators import Generator
from burnish.prepare.beir import write_beir
from burnish.prepare.corpus import SIDES, prepare
from burnish.prepare.crops import Crops, crop_pairs
from burnish.prepare.folder import open_prepared
from burnish.prepare.synthesize import Synthesis, sample, synthesize
from burnish.readers import Source
from burnish.readers.beir import read_passages
from burnish.records import Chunk, Document, Message, dump_jsonl
from burnish.retrievers import Progress, Retriever
from burnish.run import versions, write_json, write_text
from burnish.steps.train import Say
from burnish.tables import read_rows

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
RECORD = "synthesis.json"


def read_corpus(place: Path) -> list[Chunk]:
    """Return the passages of a BEIR folder, a prepared corpus, a ladder's run, or a table with a column `text`.

    A row of a table is one passage, and a document of its own.

    Raises:
        DataError: it is none of these, or has faults.
    """
    if (place / "corpus.jsonl").is_file():
        return read_passages(place)
    for folder in (place / "data", place):
        if (folder / "card.json").is_file():
            return open_prepared(folder).chunks
    return [
        Chunk(id=row.id, group=row.group or row.id, text=row.text, source=row.id, end=len(row.text))
        for row in read_rows(str(place), Document, {"text": "text"})
    ]


def questions(
    corpus: Path,
    folder: Path,
    *,
    writer: Generator,
    retriever: Retriever,
    settings: Synthesis,
    passages: int | None,
    seed: int,
    say: Say,
    progress: Progress,
) -> dict[str, Any]:
    """Write questions about a sample of the passages into a BEIR folder, whole documents held out; return the counts.

    passages: how many are asked about; None: all.

    Raises:
        DataError: the corpus cannot be read, something stands in the folder, or too few questions hold up.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: something stands here already, and is not overwritten. Name another folder")
    chunks = _grouped(read_corpus(corpus))
    asked = sample(chunks, passages, seed=seed)
    searcher = retriever.build(chunks, cache=folder.parent / f".{folder.name}.index", progress=progress)
    progress("loading the writer", 0, 1)
    loaded = writer.load()

    def write(prompts: Sequence[Sequence[Message]]) -> list[str]:
        return loaded.write(prompts, done=lambda done: progress("writing", done, len(prompts)))

    made = synthesize(asked, write, searcher, settings)
    say(f"{made.written} questions were written about {len(asked)} passages, and {len(made.questions)} hold up")
    for rule, count in made.dropped.items():
        if count:
            say(f"  {count} left out: {rule}")
    if not made.questions:
        raise DataError(f"{corpus}: no question holds up. Ask about more passages, or let a larger model write")
    prepared = prepare(Source(chunks, made.questions, []), name=str(corpus), shares=SHARES, seed=seed)
    sides = dict(zip(SIDES, (prepared.train, prepared.dev, prepared.test), strict=True))
    write_beir(folder, prepared.chunks, sides)
    found = {
        "passages": len(asked),
        "written": made.written,
        "dropped": dict(made.dropped),
        "questions": {side: len(rows) for side, rows in sides.items()},
        "writer": writer.model_dump(mode="json") | {"kind": writer.kind},
        "retriever": retriever.model_dump(mode="json") | {"kind": retriever.kind},
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "versions": versions(),
    }
    write_json(folder / RECORD, found)
    return found


def crops(corpus: Path, table: Path, *, settings: Crops, seed: int, say: Say) -> int:
    """Write pairs of crops as a table for the task `retrieve`; return how many.

    Raises:
        DataError: the corpus cannot be read, the table stands there already, or every passage is too short.
    """
    if table.exists():
        raise DataError(f"{table}: this file stands here already, and is not overwritten. Name another one")
    pairs, short = crop_pairs(read_corpus(corpus), settings, seed=seed)
    if short:
        say(f"{short} passages of fewer than {2 * settings.fewest_words} words were left out")
    if not pairs:
        raise DataError(f"{corpus}: every passage has fewer than {2 * settings.fewest_words} words; nothing is written")
    write_text(table, dump_jsonl(pairs))
    return len(pairs)


def _grouped(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the passages with a group each, which is their document where they have none."""
    return [chunk if chunk.group else chunk.model_copy(update={"group": chunk.source or chunk.id}) for chunk in chunks]
