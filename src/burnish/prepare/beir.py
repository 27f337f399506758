"""Passages and judged questions as a BEIR folder, for other libraries: corpus.jsonl, queries.jsonl and qrels/*.tsv."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import DataError
from burnish.prepare.corpus import SIDES
from burnish.prepare.folder import open_prepared
from burnish.records import Chunk, Question, check_gold, raise_faults
from burnish.run import new_folder


def write_beir(folder: Path, chunks: Sequence[Chunk], questions: Mapping[str, Sequence[Question]]) -> None:
    """Write a BEIR folder (Thakur et al. 2021, arXiv 2104.08663), whole or not at all.

    questions: by the name of their split, each of which becomes qrels/SPLIT.tsv. A gold passage's score is its grade,
    1 where it has none. Groups, answers, and where a chunk was cut from stand in `metadata`, from which the reader
    `beir` restores them: reading a split gives these chunks and these questions again. A question without a gold
    passage has no judgement, and a reader finds it not judged.

    Raises:
        DataError: something stands in the folder already, an id stands twice or cannot be written in a table, a gold
            passage is not among the chunks, or a split's name is no file's name.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: something stands here already, and is not overwritten. Name another folder")
    everything = [question for found in questions.values() for question in found]
    raise_faults(
        [
            *(f"split {name!r}: a name without {'/'!r} is needed" for name in questions if Path(name).name != name),
            *_id_faults("chunk", [chunk.id for chunk in chunks]),
            *_id_faults("question", [question.id for question in everything]),
        ]
    )
    check_gold(everything, chunks)
    with new_folder(folder) as beside:
        _write(beside / "corpus.jsonl", map(_passage, chunks))
        _write(beside / "queries.jsonl", map(_query, everything))
        (beside / "qrels").mkdir()
        for name, found in questions.items():
            lines = [f"{q.id}\t{passage}\t{grade}\n" for q in found for passage, grade in q.graded.items()]
            text = "".join(["query-id\tcorpus-id\tscore\n", *lines])
            (beside / "qrels" / f"{name}.tsv").write_text(text, encoding="utf-8", newline="\n")


def export_beir(source: Path, folder: Path) -> dict[str, int]:
    """Write a prepared corpus, or that of a ladder's run, as `write_beir` does; return the questions of each split.

    A side without questions has no file of judgements.

    Raises:
        DataError: the source is no prepared corpus and holds none, or as in `write_beir`.
    """
    prepared = open_prepared(source / "data" if (source / "data").is_dir() else source)
    sides = dict(zip(SIDES, (prepared.train, prepared.dev, prepared.test), strict=True))
    found = {side: questions for side, questions in sides.items() if questions}
    write_beir(folder, prepared.chunks, found)
    return {side: len(questions) for side, questions in found.items()}


def _passage(chunk: Chunk) -> dict[str, Any]:
    place = {"group": chunk.group, "source": chunk.source, "start": chunk.start, "end": chunk.end}
    return {"_id": chunk.id, "title": chunk.title, "text": chunk.text, "metadata": place}


def _query(question: Question) -> dict[str, Any]:
    beside = {"group": question.group, "answers": list(question.answers)}
    return {"_id": question.id, "text": question.question, "metadata": beside}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _id_faults(what: str, ids: Sequence[str]) -> list[str]:
    """Return what is wrong with ids: one that stands twice, or that a line of a table cannot hold."""
    seen: set[str] = set()
    bad = []
    for found in ids:
        if found in seen:
            bad.append(f"two {what}s are called {found!r}; each needs an id of its own")
        elif found != found.strip() or "\t" in found or len(found.splitlines()) != 1:
            bad.append(f"{what} {found!r}: an id with no tab, line end or space around it is needed in BEIR's tables")
        seen.add(found)
    return bad
