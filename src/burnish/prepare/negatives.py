"""Hard negatives: passages that a retriever takes for the answer, and that are not."""

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from burnish.errors import ModelError
from burnish.prepare.hits import Candidate, union
from burnish.prepare.mining import REASONS, VETO, Judge, Rules
from burnish.prepare.scores import Scorer
from burnish.records import Chunk, Question, check_gold
from burnish.retrievers import Hit, Searcher
from burnish.text import TextFormat, fingerprint


@dataclass(frozen=True, slots=True)
class Mined:
    """Each question's negatives, hardest first, and what the rules left out."""

    chosen: Mapping[str, tuple[Candidate, ...]]  # by question id; every question has an entry
    dropped: Mapping[str, int]  # candidates by rule, as far as was looked
    short: int  # questions with fewer negatives than asked for
    unfound: int  # questions none of whose right passages was among the hits

    @property
    def negatives(self) -> dict[str, tuple[str, ...]]:
        """The ids alone."""
        return {key: tuple(candidate.id for candidate in found) for key, found in self.chosen.items()}


def mine(
    questions: Sequence[Question],
    chunks: Iterable[Chunk],
    searchers: Sequence[Searcher],
    rules: Rules,
    *,
    veto: Scorer | None = None,
    seed: int = 0,
) -> Mined:
    """Return the hits of each question that the rules find safe to call wrong, of the union of several retrievers."""
    by_id = {chunk.id: chunk for chunk in chunks}
    check_gold(questions, by_id.values())
    asked = [question.question for question in questions]
    lists = [searcher.search(asked, rules.depth) for searcher in searchers]
    return choose(questions, lists, Judge(rules, by_id), veto=veto, seed=seed)


def choose(
    questions: Sequence[Question],
    lists: Sequence[Sequence[Sequence[Hit]]],
    judge: Judge,
    *,
    right: Mapping[str, Collection[str]] | None = None,
    veto: Scorer | None = None,
    seed: int = 0,
) -> Mined:
    """Choose negatives among what retrievers found.

    lists: of each retriever, for each question, its hits, best first. right: further right passages by question id,
    beside the question's own. seed: of the random choice, which for a question depends on its id alone.
    """
    dropped: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
    passing: dict[str, Iterator[Candidate]] = {}
    unfound = 0
    for place, question in enumerate(questions):
        gold = {*question.gold, *(right or {}).get(question.id, ())}
        candidates = union([found[place] for found in lists])
        unfound += not any(candidate.id in gold for candidate in candidates)
        safe = judge.passing(question, candidates, gold, dropped)
        passing[question.id] = _shuffled(safe, question, seed) if judge.rules.sampling == "random" else safe
    count = judge.rules.per_question
    if veto is None:
        kept = {key: list(islice(safe, count)) for key, safe in passing.items()}
    else:
        kept = _vetted(questions, passing, judge, veto, dropped)
    chosen = {key: tuple(sorted(found, key=_rank)) for key, found in kept.items()}
    short = sum(len(found) < count for found in chosen.values())
    return Mined(chosen=chosen, dropped=dict(dropped), short=short, unfound=unfound)


def _rank(candidate: Candidate) -> tuple[int, int]:
    """Return what candidates are ordered by, as `union` orders them."""
    return candidate.best, candidate.ranks.index(candidate.best)


def _shuffled(safe: Iterator[Candidate], question: Question, seed: int) -> Iterator[Candidate]:
    found = list(safe)
    random.Random(fingerprint(str(seed), question.id)).shuffle(found)
    return iter(found)


def _vetted(
    questions: Sequence[Question],
    passing: Mapping[str, Iterator[Candidate]],
    judge: Judge,
    veto: Scorer,
    dropped: Counter[str],
) -> dict[str, list[Candidate]]:
    """Take what passes until there is enough, without what the scorer finds nearly as right as a right passage.

    Of all questions together, as many pairs are scored at a time as are still wanted.
    """
    count, share, plain = judge.rules.per_question, judge.rules.veto_share, TextFormat()

    def scores(pairs: Sequence[tuple[Question, str]]) -> list[float]:
        texts = [(q.question, plain.passage(judge.chunks[key].title, judge.chunks[key].text)) for q, key in pairs]
        return _checked(veto.score(texts), len(texts))

    right = [(question, key) for question in questions for key in question.gold]
    bars: dict[str, float] = {}
    for (question, _), score in zip(right, scores(right) if right else [], strict=True):
        bars[question.id] = min(score, bars.get(question.id, math.inf))
    kept: dict[str, list[Candidate]] = {question.id: [] for question in questions}
    wanting = list(questions)
    while wanting:
        drawn = [(q, c) for q in wanting for c in islice(passing[q.id], count - len(kept[q.id]))]
        if not drawn:
            break
        for (question, candidate), score in zip(drawn, scores([(q, c.id) for q, c in drawn]), strict=True):
            bar = bars.get(question.id, math.inf)
            if score > bar - abs(bar) * (1 - share):
                dropped[VETO] += 1
            else:
                kept[question.id].append(candidate)
        wanting = [question for question in wanting if len(kept[question.id]) < count]
    return kept


def _checked(scores: Sequence[float], pairs: int) -> list[float]:
    """Return the scores of a veto.

    Raises:
        ModelError: there are more or fewer than pairs, or one is no number.
    """
    if len(scores) != pairs or not all(map(math.isfinite, scores)):
        broken = sum(not math.isfinite(score) for score in scores)
        raise ModelError(
            f"the veto's cross-encoder gave {len(scores)} scores for {pairs} pairs, {broken} of them no finite number; "
            "leave `veto` out, or name another model"
        )
    return list(scores)
