"""A source's passages and questions, made ready: without copies, split without leaks, every dropped row kept."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.errors import DataError, near_miss
from burnish.prepare.dedup import clusters, exact_duplicates, near_duplicates, root
from burnish.prepare.leaks import Leak, Text, leaks
from burnish.prepare.split import split
from burnish.readers import Source
from burnish.records import Chunk, Question, Rejected, check_gold, records_fingerprint
from burnish.text import words

SIDES = ("train", "dev", "test")  # from the one whose rows are given up first to the one whose rows stay

_LARGEST_JOINED = 0.1  # of all questions: near-duplicates do not join groups into a larger component than this

Card = dict[str, Any]  # plain numbers, texts, lists and dictionaries: what card.json holds


@dataclass(frozen=True, slots=True)
class Prepared:
    """A corpus ready to train and to evaluate on."""

    chunks: list[Chunk]
    train: list[Question]
    dev: list[Question]
    test: list[Question]
    rejected: list[Rejected]
    leaks: list[Leak]  # between test (ours) and train or dev (theirs), found after the split: none is expected
    near_duplicates: list[tuple[str, ...]]  # clusters of two or more chunk ids
    card: Card


def prepare(source: Source, *, name: str, shares: Mapping[str, float], seed: int, threshold: float = 0.8) -> Prepared:
    """Drop copies, split the questions by group, and clear what leaks from side to side.

    shares: each of train, dev, test to its part of the questions; dev or test may be left out.
    threshold: the least Jaccard similarity of near-duplicates, in (0, 1].

    Questions of one group, questions with the same right passage, with near-duplicate right passages, and questions
    that are near-duplicates of each other belong together. The latter three join groups as long as no component grows
    beyond a tenth of all questions, so that boilerplate cannot chain a whole corpus into one. What they do not join is
    cleared after the split: the question on the side that matters less (train, then dev) is rejected.

    Raises:
        DataError: a side has another name, nothing is left for one, or a question's passage is not in the corpus.
    """
    for side in shares:
        if side not in SIDES:
            hint = near_miss(side, SIDES)
            raise DataError(f"{name}: there is no side {side!r} of a split.{hint} There are: {', '.join(SIDES)}")
    check_gold(source.questions, source.chunks)
    rejected = list(source.rejected)
    chunks, questions = _without_copies(source, rejected)
    if not questions:
        raise DataError(f"{name}: the source holds {len(chunks)} passages and no question; there is nothing to split")
    passage_pairs = near_duplicates([chunk.text for chunk in chunks], threshold=threshold, seed=seed)
    passage_label = clusters(len(chunks), passage_pairs)
    links = _links(chunks, questions, passage_label, threshold=threshold, seed=seed)
    units = _units(chunks, questions)
    components = _join(units, links)
    side_of = split(components, shares=shares, seed=seed)
    kept = _clear(questions, links, side_of, rejected)
    sides = {side: [questions[place] for place in kept if side_of[place] == side] for side in SIDES}
    empty = [side for side in shares if not sides[side]]
    if empty:
        raise DataError(
            f"{name}: no question is left for {empty[0]}: {len(questions)} questions in {len(set(components))} "
            "components. Give more groups, or leave the side out"
        )
    left = _leaks_left(chunks, sides, threshold=threshold, seed=seed)
    copies = _clusters_of(chunks, passage_label)
    card = _card(chunks, sides, rejected)
    card |= {
        "name": name,
        "seed": seed,
        "shares": dict(shares),
        "near_duplicate_pairs": len(passage_pairs),
        "near_duplicate_pairs_across_groups": sum(
            chunks[one].group != chunks[other].group for one, other in passage_pairs
        ),
        "near_duplicate_clusters": len(copies),
        "components": len(set(components)),
        "largest_component": max(Counter(components).values()) / len(questions),
        "leaks_cleared": len(questions) - len(kept),
        "leaks_left": len(left),
    }
    return Prepared(chunks, sides["train"], sides["dev"], sides["test"], rejected, left, copies, card)


def _without_copies(source: Source, rejected: list[Rejected]) -> tuple[list[Chunk], list[Question]]:
    """Return the first of equal passages and of equal questions; what points to a copy is turned to the first.

    Passages are equal when title and text are, so that equal texts of different documents stay.
    """
    first = exact_duplicates([f"{chunk.title}\n{chunk.text}" for chunk in source.chunks])
    stands_for = {chunk.id: source.chunks[place].id for chunk, place in zip(source.chunks, first, strict=True)}
    for key, other in stands_for.items():
        if key != other:
            rejected.append(Rejected(reason="duplicate passage", id=key, detail=other))
    chunks = [chunk for chunk in source.chunks if stands_for[chunk.id] == chunk.id]

    same = exact_duplicates([question.question for question in source.questions])
    gold: dict[int, dict[str, int]] = defaultdict(dict)  # dictionaries for their order
    answers: dict[int, dict[str, None]] = defaultdict(dict)
    for question, place in zip(source.questions, same, strict=True):
        for key, grade in question.graded.items():  # of several grades of one passage the highest counts
            gold[place][stands_for[key]] = max(grade, gold[place].get(stands_for[key], 0))
        answers[place].update(dict.fromkeys(question.answers))
    questions = []
    for own, (question, place) in enumerate(zip(source.questions, same, strict=True)):
        if own == place:
            right = {"gold": tuple(gold[own]), "grades": tuple(gold[own].values()), "answers": tuple(answers[own])}
            questions.append(Question.model_validate({**question.model_dump(), **right}))
        else:
            detail = source.questions[place].id
            rejected.append(
                Rejected(reason="duplicate question, its answers added to the first", id=question.id, detail=detail)
            )
    return chunks, questions


def _units(chunks: Sequence[Chunk], questions: Sequence[Question]) -> list[str]:
    """Return what each question cannot be parted from: its group, else its first passage's group, else itself."""
    group_of = {chunk.id: chunk.group for chunk in chunks}
    return [
        f"group {group}"
        if (group := question.group or next((group_of[key] for key in question.gold), ""))
        else f"question {question.id}"
        for question in questions
    ]


def _links(
    chunks: Sequence[Chunk], questions: Sequence[Question], passage_label: Sequence[int], *, threshold: float, seed: int
) -> dict[str, list[int]]:
    """Return the sets of questions (their places) that should stand on one side, each under the reason."""
    label_of = {chunk.id: chunks[label].id for chunk, label in zip(chunks, passage_label, strict=True)}
    links: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        for label in sorted({label_of[key] for key in question.gold}):
            links[f"same or near-duplicate passage {label}"].append(place)
    asked = _without_common_start([question.question for question in questions])
    question_label = clusters(len(questions), near_duplicates(asked, threshold=threshold, seed=seed))
    for place, first in enumerate(question_label):
        links[f"near-duplicate question {questions[first].id}"].append(place)
    return {reason: places for reason, places in links.items() if len(places) > 1}


def _without_common_start(texts: Sequence[str]) -> list[str]:
    """Return the texts less the words that all of them begin with: a template makes any two questions similar."""
    split_texts = [text.split() for text in texts]
    common = 0
    for column in zip(*split_texts, strict=False):  # as far as the shortest text goes
        if len(texts) == 1 or len(set(column)) > 1:
            break
        common += 1
    return [" ".join(found[common:]) for found in split_texts]


def _join(units: Sequence[str], links: Mapping[str, Sequence[int]]) -> list[str]:
    """Return each question's component: units joined by links, smallest first, none beyond _LARGEST_JOINED."""
    sizes = Counter(units)
    names = sorted(sizes)
    number = {unit: place for place, unit in enumerate(names)}
    linked = [sorted({number[units[place]] for place in places}) for places in links.values()]
    parent = list(range(len(names)))
    rows = [sizes[name] for name in names]
    for together in sorted(linked, key=lambda found: (sum(sizes[names[place]] for place in found), found)):
        roots = sorted({root(parent, place) for place in together})
        size = sum(rows[place] for place in roots)
        if len(roots) > 1 and size <= _LARGEST_JOINED * len(units):
            rows[roots[0]] = size
            for other in roots[1:]:
                parent[other] = roots[0]
    return [names[root(parent, number[unit])] for unit in units]


def _clear(
    questions: Sequence[Question], links: Mapping[str, Sequence[int]], side_of: Sequence[str], rejected: list[Rejected]
) -> list[int]:
    """Return the places of the questions that stay once no link crosses from side to side."""
    dropped: dict[int, str] = {}
    for reason, places in links.items():
        present = [place for place in places if place not in dropped]
        held = max((SIDES.index(side_of[place]) for place in present), default=0)
        for place in present:
            if SIDES.index(side_of[place]) < held:
                dropped[place] = f"{reason}, on the {SIDES[held]} side"
    for place, detail in sorted(dropped.items()):
        rejected.append(Rejected(reason=f"leak out of {side_of[place]}", id=questions[place].id, detail=detail))
    return [place for place in range(len(questions)) if place not in dropped]


def _leaks_left(
    chunks: Sequence[Chunk], sides: Mapping[str, Sequence[Question]], *, threshold: float, seed: int
) -> list[Leak]:
    """Return what the test side still shares with the others, looked for anew in questions and right passages."""
    text_of = {chunk.id: chunk.text for chunk in chunks}
    everything = [question for side in SIDES for question in sides[side]]
    asked = dict(
        zip(
            (question.id for question in everything),
            _without_common_start([question.question for question in everything]),
            strict=True,
        )
    )

    def passages(questions: Iterable[Question]) -> list[Text]:
        return [Text(key, text_of[key]) for key in dict.fromkeys(key for q in questions for key in q.gold)]

    def asking(questions: Iterable[Question]) -> list[Text]:
        return [Text(question.id, asked[question.id]) for question in questions]

    others = [*sides["train"], *sides["dev"]]
    return [
        *leaks(asking(sides["test"]), asking(others), threshold=threshold, seed=seed),
        *leaks(passages(sides["test"]), passages(others), threshold=threshold, seed=seed),
    ]


def _clusters_of(chunks: Sequence[Chunk], labels: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the ids of the passages that share a label, where there are several."""
    members: dict[int, list[str]] = defaultdict(list)
    for chunk, label in zip(chunks, labels, strict=True):
        members[label].append(chunk.id)
    return [tuple(found) for found in members.values() if len(found) > 1]


def _card(chunks: Sequence[Chunk], sides: Mapping[str, Sequence[Question]], rejected: Sequence[Rejected]) -> Card:
    """Return the plain counts of what there is and what was left out."""
    everything = [question for side in SIDES for question in sides[side]]
    group_of = {chunk.id: chunk.group for chunk in chunks}
    return {
        "passages": len(chunks),
        "questions": {side: len(sides[side]) for side in SIDES},
        "groups": {
            side: len({q.group or next((group_of[key] for key in q.gold), "") for q in sides[side]} - {""})
            for side in SIDES
        },
        "rejected": dict(sorted(Counter(row.reason for row in rejected).items())),
        "words_per_passage": _quantiles([len(words(chunk.text)) for chunk in chunks]),
        "words_per_question": _quantiles([len(words(question.question)) for question in everything]),
        "fingerprint": records_fingerprint([*chunks, *everything]),
    }


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    """Return the smallest, the largest, and the lengths below which 50, 90 and 99 of 100 lie."""
    marks = {"least": 0.0, "half": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    found = np.quantile(lengths, list(marks.values()), method="higher")
    return {mark: int(value) for mark, value in zip(marks, found, strict=True)}
