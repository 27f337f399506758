"""A teacher's scores: what a stronger model gives each passage of a row, computed once and kept."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from burnish.models.encode import Encoder
from burnish.records import Pair
from burnish.retrievers import Progress
from burnish.run import locked
from burnish.text import fingerprint

AT_ONCE = 4096  # pairs that are scored, then kept: what a crash costs

TextPair = tuple[str, str]  # a query and a passage, as the rows have them


class Scorer(Protocol):
    """What scores a query with a passage: a cross-encoder, or a bi-encoder (`BiEncoderScorer`)."""

    def score(self, pairs: Sequence[TextPair]) -> Sequence[float]:
        """Return a score for each (query, passage), in the order given; in any unit, higher is better."""


class BiEncoderScorer:
    """A bi-encoder as a teacher: cosines, with the prefixes and lengths that belong to the model."""

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder as it is."""
        self._encoder = encoder

    def score(self, pairs: Sequence[TextPair]) -> list[float]:
        """Return the cosine of each (query, passage); every different text is encoded once."""
        form = self._encoder.format
        queries, _ = self._encoder.encode([form.query(query) for query, _ in pairs], max_tokens=form.query_tokens)
        read = [form.passage("", passage) for _, passage in pairs]
        passages, _ = self._encoder.encode(read, max_tokens=form.passage_tokens)
        cosines: list[float] = (queries * passages).sum(dim=1).tolist()
        return cosines


def teacher_scores(
    rows: Sequence[Pair], scorer: Scorer, *, cache: Path, progress: Progress = lambda *_: None
) -> list[Pair]:
    """Return the rows with the scores of their positives and negatives.

    cache: a folder for this teacher alone, named by its weights (`Encoder.fingerprint`) or its version. Scores are kept
    there by the texts of query and passage, so that a pair is scored once, whatever rows it stands in and however often
    this is called; after a crash at most `AT_ONCE` pairs are scored again.

    Raises:
        RunError: another process is at work in the cache.
    """
    pairs = {_key(pair): pair for row in rows for pair in _pairs(row)}
    with locked(cache):
        kept = dict(_read(cache / "scores.jsonl"))
        new = [key for key in pairs if key not in kept]
        for first in range(0, len(new), AT_ONCE):
            progress("asking the teacher", first, len(new))
            block = new[first : first + AT_ONCE]
            scores = map(float, scorer.score([pairs[key] for key in block]))
            found = dict(zip(block, scores, strict=True))
            with (cache / "scores.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line)}\n" for line in found.items())
            kept |= found
    return [row.model_copy(update={"scores": tuple(kept[_key(pair)] for pair in _pairs(row))}) for row in rows]


def _pairs(row: Pair) -> list[TextPair]:
    return [(row.query, passage) for passage in (*row.positives, *row.negatives)]


def _key(pair: TextPair) -> str:
    return fingerprint(*pair)


def _read(path: Path) -> Iterator[tuple[str, float]]:
    """Yield what is kept, and cut off a last line that a crash left unfinished."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(end)
                break
            end += len(line)
            key, score = json.loads(line)
            yield key, score
