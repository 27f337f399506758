"""Rows that teach a generator to stay with its passages: the actual retriever's, right ones among them or not."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from pydantic import Field

from burnish.prepare.answers import holds, telling
from burnish.prepare.hits import union
from burnish.prepare.mining import RIGHT, Judge, Rules
from burnish.rag_rows import RagRow
from burnish.records import Chunk, Question, Rejected
from burnish.retrievers import Hit
from burnish.spec import Spec
from burnish.text import fingerprint

SPARE = 20  # hits searched beyond those shown, for what takes the place of passages that are taken out

FOUND = "the gold passage was found"
PUT_IN = "the gold passage was put in"
TAKEN_OUT = "every passage that may hold the answer was taken out"
NOT_FOUND = "the gold passage was not found"
HOLDS = "the gold passage was not found, and another one holds an answer"
UNANSWERABLE = "the source has no answer"
WAYS = (FOUND, PUT_IN, TAKEN_OUT, NOT_FOUND, HOLDS, UNANSWERABLE)

NO_ANSWER = "no right answer is known"
NO_GOLD = "no right passage is known"
NO_DISTRACTOR = "no passage was found that does not answer it"
NO_PASSAGE = "no passage was found"


class Grounding(Spec):
    """RAFT: answers learned among distractors (Zhang et al. 2024, arXiv 2403.10131).

    gold: share of the training questions whose row has a right passage, put in where the retriever did not find it.
    The others have nothing but what it found beside: there the model learns to abstain, or, as RAFT has it, to answer
    from memory. On dev and test nothing is put in and nothing taken out.
    """

    gold: float = Field(default=0.8, ge=0, le=1)
    without_gold: Literal["abstain", "answer"] = "abstain"
    order: Literal["shuffled", "ranked"] = "shuffled"  # of a training row: shuffled, the place tells nothing


@dataclass(frozen=True, slots=True)
class Grounded:
    """Rows, the questions that none was made of, how the rows were made, and which hits were no distractors."""

    rows: list[RagRow] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(WAYS, 0)))
    left_out: Counter[str] = field(default_factory=Counter)  # hits of rows without gold, by the rule of mining

    def add(self, other: "Grounded") -> None:
        """Take in what was made of further questions."""
        self.rows.extend(other.rows)
        self.rejected.extend(other.rejected)
        self.ways.update(other.ways)
        self.left_out.update(other.left_out)


def told(made: Grounded) -> str:
    """Return how rows were made and left out, in words."""
    counts = [f"{way}: {count}" for way, count in made.ways.items() if count]
    reasons = Counter(row.reason for row in made.rejected)
    left_out = [f"left out, {reason}: {count}" for reason, count in reasons.items()]
    return f"{len(made.rows)} rows ({'; '.join([*counts, *left_out])})"


def depth(passages: int) -> int:
    """Return how many hits of each question are needed for rows of so many passages."""
    return passages + SPARE


def training_rows(
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    chunks: Mapping[str, Chunk],
    settings: Grounding,
    *,
    passages: int,
    seed: int,
) -> Grounded:
    """Make a row of each training question, of `passages` passages at most.

    hits: of each question, best first, `depth(passages)` of them. What becomes of a question depends on the seed and
    its id alone, not on the other questions.
    """
    judge, made = Judge(Rules(ceiling=None), chunks), Grounded()
    for question, found in zip(questions, hits, strict=True):
        chance = random.Random(fingerprint(str(seed), question.id))
        ids = [hit.id for hit in found[:passages]]
        answerable = True
        if reason := _lacking(question):
            made.rejected.append(Rejected(reason=reason, id=question.id, detail=question.question))
            continue
        if not question.gold:
            way, answerable = UNANSWERABLE, False
        elif chance.random() >= settings.gold:
            way, answerable = TAKEN_OUT, settings.without_gold == "answer"
            ids = _distractors(question, found, judge, passages, made.left_out)
        elif not {*ids}.isdisjoint(question.gold):
            way = FOUND
        else:
            way, ids = PUT_IN, [*ids[: passages - 1]]
            ids.insert(chance.randint(0, len(ids)), _best_gold(question, found))
        if not ids:
            reason = NO_DISTRACTOR if way == TAKEN_OUT else NO_PASSAGE
            made.rejected.append(Rejected(reason=reason, id=question.id, detail=question.question))
            continue
        if settings.order == "shuffled":
            chance.shuffle(ids)
        made.ways[way] += 1
        made.rows.append(row_of(question, [chunks[key] for key in ids], answerable=answerable))
    return made


def held_out_rows(
    questions: Sequence[Question],
    hits: Sequence[Sequence[Hit]],
    chunks: Mapping[str, Chunk],
    settings: Grounding,
    *,
    passages: int,
) -> Grounded:
    """Make a row of each dev or test question with the passages that serving would show, in their order.

    A row is answerable where a gold passage is among them, or another one that holds an answer word for word; or where
    the model learns to answer from memory.
    """
    made = Grounded()
    for question, found in zip(questions, hits, strict=True):
        shown = [chunks[hit.id] for hit in found[:passages]]
        reason = _lacking(question) or ("" if shown else NO_PASSAGE)
        if reason:
            made.rejected.append(Rejected(reason=reason, id=question.id, detail=question.question))
            continue
        answers = telling(question.answers)
        if not question.gold:
            way = UNANSWERABLE
        elif not {chunk.id for chunk in shown}.isdisjoint(question.gold):
            way = FOUND
        else:
            told = bool(answers) and any(holds(f"{chunk.title}\n{chunk.text}", answers) for chunk in shown)
            way = HOLDS if told else NOT_FOUND
        made.ways[way] += 1
        remembered = way == NOT_FOUND and settings.without_gold == "answer"
        made.rows.append(row_of(question, shown, answerable=remembered or way in (FOUND, HOLDS)))
    return made


def _lacking(question: Question) -> str:
    """Return why no row can be made of a question; with neither answer nor passage it is one that has no answer."""
    if question.gold and not question.answers:
        return NO_ANSWER
    return NO_GOLD if question.answers and not question.gold else ""


def _distractors(
    question: Question, found: Sequence[Hit], judge: Judge, count: int, left_out: Counter[str]
) -> list[str]:
    """Return the best hits that do not answer the question, by the rules of mining; the others are counted."""
    dropped: Counter[str] = Counter()
    safe = judge.passing(question, union([found]), {*question.gold}, dropped)
    ids = [candidate.id for candidate in islice(safe, count)]
    left_out.update({reason: number for reason, number in dropped.items() if reason != RIGHT})
    return ids


def _best_gold(question: Question, found: Sequence[Hit]) -> str:
    """Return the right passage of the highest grade; of equal grades the one that ranks highest."""
    rank = {hit.id: place for place, hit in enumerate(found)}
    return min(question.gold, key=lambda key: (-question.graded[key], rank.get(key, len(rank))))


def row_of(question: Question, shown: Sequence[Chunk], *, answerable: bool) -> RagRow:
    """Return a question as a row with these passages."""
    first, *others = question.answers or ("",)
    return RagRow(
        id=question.id,
        group=question.group,
        question=question.question,
        passages=tuple(shown),
        answer=first,
        others=tuple(others),
        gold=question.gold,
        answerable=answerable,
    )
