"""A teacher's scores: what a stronger model gives each passage of a row, computed once and kept."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from burnish.models.towers import BiEncoder
from burnish.prepare.scores import KeptScores, Scorer, TextPair
from burnish.records import Pair
from burnish.retrievers import Progress
from burnish.run import locked


class BiEncoderScorer:
    """A bi-encoder as a teacher: cosines, with the prefixes and lengths that belong to the model."""

    def __init__(self, encoder: BiEncoder) -> None:
        """Take the encoder as it is."""
        self._encoder = encoder

    def score(self, pairs: Sequence[TextPair]) -> list[float]:
        """Return the cosine of each (query, passage); every different text is encoded once."""
        form = self._encoder.format
        asked = [form.query(query) for query, _ in pairs]
        queries, _ = self._encoder.queries.encode(asked, max_tokens=form.query_tokens)
        read = [form.passage("", passage) for _, passage in pairs]
        passages, _ = self._encoder.passages.encode(read, max_tokens=form.passage_tokens)
        cosines: list[float] = (queries * passages).sum(dim=1).tolist()
        return cosines


def teacher_scores(
    rows: Sequence[Pair], scorer: Scorer, *, cache: Path, progress: Progress = lambda *_: None
) -> list[Pair]:
    """Return the rows with the scores of their positives and negatives.

    cache: a folder for this teacher alone, named by its weights (its `fingerprint`) or its version. Scores are kept
    there by the texts of query and passage, so that a pair is scored once, whatever rows it stands in and however often
    this is called; after a crash at most `scores.AT_ONCE` pairs are scored again.

    Raises:
        RunError: another process is at work in the cache.
    """
    pairs = [_pairs(row) for row in rows]
    with locked(cache):
        kept = KeptScores(cache / "scores.jsonl")
        every = [pair for found in pairs for pair in found]
        told = partial(progress, "asking the teacher")
        scores = iter(kept.of(every, scorer.score, progress=told))
    return [
        row.model_copy(update={"scores": tuple(next(scores) for _ in found)})
        for row, found in zip(rows, pairs, strict=True)
    ]


def _pairs(row: Pair) -> list[TextPair]:
    return [(row.query, passage) for passage in (*row.positives, *row.negatives)]
