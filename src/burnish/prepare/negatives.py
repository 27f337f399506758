"""Hard negatives: passages that a retriever takes for the answer, and that are not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from burnish.prepare.dedup import containment, word_shingles
from burnish.records import Chunk, Question, check_gold
from burnish.retrievers import Hit, Searcher
from burnish.text import normal

_COPY = 0.8  # share of word shingles from which a passage counts as a copy of the right one

RIGHT = "is a right passage"
ANSWER = "is titled like an answer"
SCORE = "scores too close to the right passage"
COPY = "is a near-duplicate of a right passage"
UNRANKED = "ranks high where no right passage was found"


@dataclass(frozen=True, slots=True)
class Mined:
    """The ids of each question's negatives, hardest first, and what the rules left out."""

    negatives: Mapping[str, tuple[str, ...]]  # by question id; every question has an entry
    dropped: Mapping[str, int]  # hits by rule
    short: int  # questions with fewer negatives than asked for
    unfound: int  # questions none of whose right passages was among the hits


def mine(
    questions: Sequence[Question],
    chunks: Iterable[Chunk],
    searcher: Searcher,
    *,
    per_question: int,
    depth: int,
    ceiling: float = 0.95,
) -> Mined:
    """Return the best-ranked hits of each question that are safe to call wrong.

    depth: how many hits are looked at. A hit is left out when it is right; when its title is an answer; when its score
    is above `ceiling` times the lowest score of a right passage that was found (TopK-PercPos: Moreira et al. 2024,
    arXiv 2407.15831), read as 1 - ceiling below that score, so that it also holds below zero; or when it is a copy of
    a right passage: of the smaller's runs of five words at least 0.8 stand in the other. Where no right passage was
    found there is no score to compare with, and the upper half of the hits is left out instead.

    Raises:
        ValueError: per_question is below 0, depth below 1, or ceiling is not in (0, 1].
    """
    if per_question < 0 or depth < 1 or not 0 < ceiling <= 1:
        raise ValueError("per_question must be at least 0, depth at least 1, and ceiling in (0, 1]")
    by_id = {chunk.id: chunk for chunk in chunks}
    check_gold(questions, by_id.values())

    @cache
    def shingles(key: str) -> frozenset[int]:
        return word_shingles(by_id[key].text)

    negatives: dict[str, tuple[str, ...]] = {}
    dropped: Counter[str] = Counter(dict.fromkeys((RIGHT, ANSWER, SCORE, COPY, UNRANKED), 0))
    unfound = 0
    found = searcher.search([question.question for question in questions], depth)
    for question, hits in zip(questions, found, strict=True):
        limit = _limit(question, hits, ceiling)
        unfound += limit is None
        answers = {normal(answer) for answer in question.answers}
        kept: list[str] = []
        for rank, hit in enumerate(hits):
            if len(kept) == per_question:
                break
            if hit.id in question.gold:
                dropped[RIGHT] += 1
            elif limit is None and rank < depth // 2:
                dropped[UNRANKED] += 1
            elif limit is not None and hit.score > limit:
                dropped[SCORE] += 1
            elif by_id[hit.id].title and normal(by_id[hit.id].title) in answers:
                dropped[ANSWER] += 1
            elif any(containment(shingles(hit.id), shingles(gold)) >= _COPY for gold in question.gold):
                dropped[COPY] += 1
            else:
                kept.append(hit.id)
        negatives[question.id] = tuple(kept)
    short = sum(len(kept) < per_question for kept in negatives.values())
    return Mined(negatives=negatives, dropped=dict(dropped), short=short, unfound=unfound)


def _limit(question: Question, hits: Sequence[Hit], ceiling: float) -> float | None:
    """Return the highest score a negative may have; None when no right passage was found."""
    right = [hit.score for hit in hits if hit.id in question.gold]
    return min(right) - abs(min(right)) * (1 - ceiling) if right else None
