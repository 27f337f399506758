"""A BEIR folder as rows of pairs: its corpus, its queries, and the judgements of one split."""

from pathlib import Path

from burnish.errors import DataError
from burnish.prepare.examples import pairs
from burnish.readers import Source
from burnish.readers.beir import Beir
from burnish.records import Pair
from burnish.text import TextFormat


def is_beir(place: str | Path) -> bool:
    """Tell whether this is a folder with a corpus and queries."""
    return all((Path(place) / name).is_file() for name in ("corpus.jsonl", "queries.jsonl"))


def judged_source(folder: str | Path, split: str) -> Source:
    """Return the passages, and the questions that qrels/SPLIT.tsv judges.

    Raises:
        DataError: a file is missing or has faults, all of which are listed; or no query has a right passage.
    """
    source = Beir(path=Path(folder), split=split).load()
    if not source.questions:
        raise DataError(f"{folder}/qrels/{split}.tsv: no query has a passage with a score of 1 or more")
    return source


def training_pairs(folder: str | Path, split: str = "train") -> list[Pair]:
    """Return a pair with its right passages and their grades for each judged query; negatives are left to mining."""
    source = judged_source(folder, split)
    return pairs(source.questions, {chunk.id: chunk for chunk in source.chunks}, {})


def held_out_pairs(folder: str | Path, split: str) -> list[Pair]:
    """Return pairs to score on, which together hold the whole corpus: each query is ranked against all of it.

    Retrieval ranks all passages that its rows hold, so those that answer no query of the split are dealt out to the
    rows as negatives, one to each in turn. What a single row holds of them means nothing.
    """
    source = judged_source(folder, split)
    rows = pairs(source.questions, {chunk.id: chunk for chunk in source.chunks}, {})
    right = {text for row in rows for text in row.positives}
    plain = TextFormat()
    texts = dict.fromkeys(plain.passage(chunk.title, chunk.text) for chunk in source.chunks)
    rest = [text for text in texts if text not in right]
    return [row.model_copy(update={"negatives": tuple(rest[place :: len(rows)])}) for place, row in enumerate(rows)]
