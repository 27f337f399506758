"""Hybrid retrieval: several rankings, fused by rank or by score."""

from collections.abc import Iterator, Sequence
from math import fsum, sqrt
from pathlib import Path
from statistics import fmean
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from burnish.errors import DataError, RecipeError
from burnish.metrics.ndcg import Ndcg
from burnish.records import Chunk, Question
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.spec import Spec

GRID = 10  # weights that are tried are tenths


class Hybrid(Retriever):
    """Weighted fusion of several retrievers: a passage's score is the weighted sum of what each retriever gives it.

    ranks: 1 / (k + rank), reciprocal rank fusion (Cormack et al. 2009, SIGIR). minmax: the retriever's score, its least
    hit 0 and its best 1. z: the score above the least hit's, in standard deviations of all hits (the order is that of
    z-scores where a passage that was not found has the least hit's). A passage that was not found gets 0 (Bruch et al.
    2023, arXiv 2210.11934, compare them).
    """

    of: tuple[Retriever, ...] = Field(min_length=2)
    k: int = Field(default=60, ge=1)
    depth: int = Field(default=100, ge=1)  # hits of each retriever that count, however many are asked for
    fuse: Literal["ranks", "minmax", "z"] = "ranks"
    weights: tuple[NonNegativeFloat, ...] | None = None  # one for each of `of`; None: 1 each

    @model_validator(mode="after")
    def _has_a_weight_each(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.of):
            raise RecipeError(
                f"there are {len(self.weights)} weights for {len(self.of)} retrievers; each needs one, in their order"
            )
        if self.weights is not None and not any(self.weights):
            raise RecipeError("every weight is 0, so nothing would be found; at least one must be above 0")
        return self

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        """Build every member."""
        return _HybridSearcher(self, [member.build(chunks, cache=cache, progress=progress) for member in self.of])


class Tuned(Spec):
    """The weights that rank the dev questions best, and how well."""

    weights: tuple[float, ...]
    ndcg: float  # mean nDCG@10 of the dev questions with these weights
    before: float  # with those of the hybrid that was tuned
    questions: int
    tried: int


def tune_weights(hybrid: Hybrid, members: Sequence[Searcher], questions: Sequence[Question]) -> Tuned:
    """Try all weights in tenths that add up to 1, and return those with the best mean nDCG@10 on the dev questions.

    members: the searchers of `hybrid.of` over one corpus, each of which searches once. Questions without a gold passage
    are left out. Of equal scores the most even weights win. `hybrid.model_copy(update={"weights": tuned.weights})`
    is the tuned hybrid; measure it on other questions than these.

    Raises:
        DataError: no question has a gold passage.
    """
    judged = [question for question in questions if question.gold]
    if not judged:
        raise DataError("weights are tuned on questions with gold passages, and none of these has any")
    found = [member.search([question.question for question in judged], hybrid.depth) for member in members]
    given = [
        [_given(hits, hybrid) for hits in rankings] for rankings in zip(*found, strict=True)
    ]  # question → retriever → passage → what it gets
    grades = [question.graded for question in judged]

    def ndcg(weights: Sequence[float]) -> float:
        rankings = [[hit.id for hit in _fused(each, weights, 10)] for each in given]
        return fmean(Ndcg(k=10).score(rankings, grades))

    count = len(members)
    scores = {weights: ndcg(weights) for weights in _simplex(count)}
    best = max(scores, key=lambda weights: (scores[weights], -fsum((each - 1 / count) ** 2 for each in weights)))
    before = ndcg(hybrid.weights or [1.0] * count)
    return Tuned(weights=best, ndcg=scores[best], before=before, questions=len(judged), tried=len(scores))


class _HybridSearcher:
    def __init__(self, hybrid: Hybrid, members: Sequence[Searcher]) -> None:
        self._hybrid = hybrid
        self._members = members

    @property
    def notes(self) -> dict[str, int]:
        return {reason: count for member in self._members for reason, count in member.notes.items()}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        found = [member.search(questions, self._hybrid.depth) for member in self._members]
        weights = self._hybrid.weights or [1.0] * len(found)
        return [
            _fused([_given(hits, self._hybrid) for hits in rankings], weights, k)
            for rankings in zip(*found, strict=True)
        ]


def _given(hits: Sequence[Hit], hybrid: Hybrid) -> dict[str, float]:
    """Return what a retriever gives each passage that it found."""
    if hybrid.fuse == "ranks":
        return {hit.id: 1 / (hybrid.k + rank) for rank, hit in enumerate(hits, start=1)}
    scores = [hit.score for hit in hits]
    if not scores:
        return {}
    least, mean = min(scores), fmean(scores)
    unit = max(scores) - least
    if not unit:  # all alike, so all are the best
        return {hit.id: 1.0 for hit in hits}
    if hybrid.fuse == "z":
        unit = sqrt(fmean([(score - mean) ** 2 for score in scores]))
    return {hit.id: (hit.score - least) / unit for hit in hits}


def _fused(given: Sequence[dict[str, float]], weights: Sequence[float], k: int) -> list[Hit]:
    """Return the k best passages; what retrievers of weight 0 alone have found is none."""
    scores: dict[str, float] = {}
    for found, weight in zip(given, weights, strict=True):
        if not weight:
            continue
        for key, score in found.items():
            scores[key] = scores.get(key, 0.0) + weight * score
    by_id = sorted(scores.items(), key=lambda entry: entry[0], reverse=True)
    return [Hit(key, score) for key, score in sorted(by_id, key=lambda entry: -entry[1])[:k]]


def _simplex(count: int, left: int = GRID) -> Iterator[tuple[float, ...]]:
    """Yield all tuples of so many tenths that add up to `left` tenths."""
    if count == 1:
        yield (left / GRID,)
        return
    for first in range(left + 1):
        for rest in _simplex(count - 1, left - first):
            yield (first / GRID, *rest)
