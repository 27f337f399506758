"""Synthetic questions: a model writes them about passages, and only those that hold up are kept."""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import Field

from burnish.prepare.dedup import clusters, containment, near_duplicates, word_shingles
from burnish.records import Chunk, Message, Question
from burnish.retrievers import Searcher
from burnish.spec import Spec
from burnish.text import words

T = TypeVar("T")
Write = Callable[[Sequence[Sequence[Message]]], list[str]]  # prompts in, a text after each out

ASKS = (  # each passage is asked about in other ways, for a model without chance says the same twice
    "Write one question that this passage answers. Ask as somebody who has not seen the passage. Reply with the "
    "question alone.",
    "Write one question about a detail that stands in this passage. Name what it is about. Reply with the question "
    "alone.",
    "Write what somebody would type into a search box to find this passage: a few words. Reply with them alone.",
    "Write one question with why or how that this passage answers. Reply with the question alone.",
)
ANSWER = (
    "Answer the question from the passage alone, with a few words of the passage. If the passage does not answer it, "
    "reply: none"
)

FORM = "no question: too short, too long, or cut"
POINTS = "speaks of the passage instead of the matter"
COPIED = "copies the passage"
TWICE = "asked already, in other or the same words"
UNANSWERED = "not answered by the passage"
LOST = "the passage does not come back for it"

_LABEL = re.compile(r"^\s*(?:[-*•]|\d+[.)]|(?:question|query|search|q)\s*:)\s*", re.IGNORECASE)
_POINTS = re.compile(
    r"\b(?:this|the|that|above|given|following)\s+"
    r"(?:passage|text|article|paragraph|document|excerpt|context|section|sentence|author)\b",
    re.IGNORECASE,
)
_NONE = ("none", "unanswerable", "not mentioned", "not stated")
_FEW = 5  # words that may all stand in the passage in a row: a search for its own words is a good one


class Synthesis(Spec):
    """What is asked for, and what holds up.

    A question is kept when it has a form; does not point at its passage or copy it; is not asked twice; when the writer
    answers it from the passage with words of which `grounded` stand there; and when the passage is among the first
    `top_k` that a retriever finds for it: the round trip of Promptagator (Dai et al. 2022, arXiv 2209.11755).
    """

    per_passage: int = Field(default=2, ge=1, le=len(ASKS))
    passage_words: int = Field(default=160, ge=8)  # of a passage, that the writer sees
    least_words: int = Field(default=3, ge=1)
    most_words: int = Field(default=40, ge=1)
    copied: float = Field(default=0.8, gt=0, le=1)  # share of its runs of five words that may not stand in the passage
    grounded: float = Field(default=0.6, gt=0, le=1)  # share of an answer's words that must stand in the passage
    top_k: int = Field(default=10, ge=1)


@dataclass(frozen=True, slots=True)
class Synthesized:
    """The questions that held up, each with its answer and its passage, and how many did not, by rule."""

    questions: list[Question]
    written: int
    dropped: Mapping[str, int]


def synthesize(chunks: Sequence[Chunk], write: Write, searcher: Searcher, settings: Synthesis) -> Synthesized:
    """Have questions written about each passage, and keep those that hold up.

    searcher: over the whole corpus. A question's group is its passage's, so that whole documents can be held out.
    The rules are applied in the order of what they cost; each question is counted at the first that it breaks.
    """
    asked = [(chunk, ask) for chunk in chunks for ask in ASKS[: settings.per_passage]]
    texts = [_cleaned(text) for text in write([_prompt(ask, chunk, settings) for chunk, ask in asked])]
    dropped: Counter[str] = Counter(dict.fromkeys((FORM, POINTS, COPIED, TWICE, UNANSWERED, LOST), 0))
    found = []
    for (chunk, _), text in zip(asked, texts, strict=True):
        fault = _fault(text, chunk, settings)
        if fault:
            dropped[fault] += 1
        else:
            found.append((chunk, text))
    firsts = _first_of_each([text for _, text in found])
    dropped[TWICE] += len(found) - len(firsts)
    found = [found[place] for place in firsts]
    answers = write([_prompt(ANSWER, chunk, settings, text) for chunk, text in found])
    answered = [
        (chunk, text, answer.strip())
        for (chunk, text), answer in zip(found, answers, strict=True)
        if _holds(answer, chunk, settings)
    ]
    dropped[UNANSWERED] += len(found) - len(answered)
    hits = searcher.search([text for _, text, _ in answered], settings.top_k)
    kept = [row for row, best in zip(answered, hits, strict=True) if row[0].id in {hit.id for hit in best}]
    dropped[LOST] += len(answered) - len(kept)
    counts: Counter[str] = Counter()
    questions = []
    for chunk, text, answer in kept:
        counts[chunk.id] += 1
        key = f"{chunk.id}#{counts[chunk.id]}"
        questions.append(Question(id=key, group=chunk.group, question=text, answers=(answer,), gold=(chunk.id,)))
    return Synthesized(questions, len(asked), dict(dropped))


def sample(rows: Sequence[T], count: int | None, *, seed: int) -> list[T]:
    """Return so many rows in their order, drawn at random; all, where none are counted."""
    if count is None or count >= len(rows):
        return list(rows)
    chosen = set(random.Random(seed).sample(range(len(rows)), count))
    return [row for place, row in enumerate(rows) if place in chosen]


def _prompt(ask: str, chunk: Chunk, settings: Synthesis, question: str = "") -> tuple[Message, ...]:
    """Return the chat that shows a passage, with a question where one is to be answered."""
    title = f"{chunk.title}\n" if chunk.title else ""
    passage = title + " ".join(chunk.text.split()[: settings.passage_words])
    asked = f"\n\nQuestion: {question}" if question else ""
    return Message(role="system", content=ask), Message(role="user", content=f"Passage:\n{passage}{asked}")


def _cleaned(text: str) -> str:
    """Return the first line that says something, without a label, a number or quotes."""
    line = next((line for line in text.splitlines() if words(line)), "")
    while (bare := _LABEL.sub("", line)) != line:
        line = bare
    return " ".join(line.strip().strip("\"'`*“”").split())


def _fault(text: str, chunk: Chunk, settings: Synthesis) -> str:
    """Return which rule the text alone breaks, if any."""
    if not settings.least_words <= len(words(text)) <= settings.most_words:
        return FORM
    if _POINTS.search(text):
        return POINTS
    ours = word_shingles(text)
    return COPIED if len(words(text)) > _FEW and containment(ours, word_shingles(chunk.text)) >= settings.copied else ""


def _first_of_each(texts: Sequence[str]) -> list[int]:
    """Return the places of the texts that no earlier one nearly equals."""
    first = clusters(len(texts), near_duplicates(texts))
    return [place for place, low in enumerate(first) if place == low]


def _holds(answer: str, chunk: Chunk, settings: Synthesis) -> bool:
    """Tell whether an answer says something, in words of the passage."""
    said = _content(words(answer))
    if not said or " ".join(words(answer)).startswith(_NONE):
        return False
    there = set(words(f"{chunk.title} {chunk.text}"))
    return sum(word in there for word in said) >= settings.grounded * len(said)


def _content(found: Iterable[str]) -> list[str]:
    """Return the words that carry what is said; all, where none of them does."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # a slow import

    found = list(found)
    return [word for word in found if word not in ENGLISH_STOP_WORDS] or found
