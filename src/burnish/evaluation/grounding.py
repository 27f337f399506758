"""Answers of a pipeline, held against the passages of their prompts: grounding, and what citations are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.claims import Case, Claim, Grounded, Judged, Statement, sentences
from burnish.failures import Failure
from burnish.grounding import Check
from burnish.prompt import citations, without_citations
from burnish.retrievers import Progress
from burnish.text import words


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as written, with the texts of the passages that its prompt showed, in their order from number 1."""

    text: str
    passages: tuple[str, ...]
    abstained: bool


def grounding(replies: Sequence[Reply], check: Check, *, progress: Progress) -> list[Judged]:
    """Return what bears each answer; one that abstains claims nothing, which is borne."""
    asked = [reply for reply in replies if not reply.abstained]
    judged = iter(check([Case(reply.passages, reply.text) for reply in asked], progress=progress))
    nothing = Grounded((Claim("", 1.0, supported=True),))
    return [nothing if reply.abstained else next(judged) for reply in replies]


def cited(replies: Sequence[Reply], check: Check, *, progress: Progress) -> list[tuple[Statement, ...] | Failure]:
    """Return the statements of each answer and what their citations are worth (ALCE, arXiv 2305.14627, section 3).

    A statement is borne where the passages that it cites, put together, bear it. A citation is precise where that
    is so, and its passage bears the statement alone, or the others do not bear it without it. A number that no passage
    has cites nothing, and is not precise. One failed judgement is a failure of the answer: it has no statements.
    """
    said = [_cited_sentences(reply) for reply in replies]
    cases = [
        case
        for reply, marked in zip(replies, said, strict=True)
        for sentence, numbers in marked
        for case in _cases(reply, sentence, numbers)
    ]
    unique = list(dict.fromkeys(cases))
    judged = dict(zip(unique, check(unique, progress=progress), strict=True))
    return [_statements(reply, marked, judged) for reply, marked in zip(replies, said, strict=True)]


def _cited_sentences(reply: Reply) -> list[tuple[str, tuple[int, ...]]]:
    """Return the sentences of an answer, without marks, each with the numbers that it cites; of none, one nothing."""
    if reply.abstained:
        return []
    marked = [(without_citations(sentence), citations(sentence)) for sentence in sentences(reply.text)]
    return [(sentence, numbers) for sentence, numbers in marked if words(sentence)]


def _cases(reply: Reply, sentence: str, numbers: Sequence[int]) -> list[Case]:
    """Return what is to be judged of a statement: all that it cites, then each alone, then all but each."""
    there = _there(reply, numbers)
    if not there:
        return []
    parts = [there, *([number] for number in there), *([other for other in there if other != one] for one in there)]
    return [_together(reply, sentence, part) for part in parts if part]


def _together(reply: Reply, sentence: str, numbers: Sequence[int]) -> Case:
    """Return a statement against passages that are put together as one."""
    return Case(("\n".join(reply.passages[number - 1] for number in numbers),), sentence)


def _statements(
    reply: Reply, marked: Sequence[tuple[str, tuple[int, ...]]], judged: Mapping[Case, Judged]
) -> tuple[Statement, ...] | Failure:
    """Return the statements of one answer, or the first failure among what was judged of them."""
    if reply.abstained:
        return (Statement(borne=True, precise=(True,)),)
    found = []
    for sentence, numbers in marked:
        ours = [judged[case] for case in _cases(reply, sentence, numbers)]
        failed = next((one for one in ours if isinstance(one, Failure)), None)
        if failed:
            return failed
        there = _there(reply, numbers)
        borne = bool(there) and _bears(there, reply, sentence, judged)
        precise = tuple(borne and n in there and _helps(n, there, reply, sentence, judged) for n in numbers)
        found.append(Statement(borne, precise))
    return tuple(found)


def _helps(number: int, there: Sequence[int], reply: Reply, sentence: str, judged: Mapping[Case, Judged]) -> bool:
    """Tell whether a citation bears the sentence alone, or the others do not bear it without this one."""
    others = [other for other in there if other != number]
    return _bears([number], reply, sentence, judged) or not others or not _bears(others, reply, sentence, judged)


def _bears(numbers: Sequence[int], reply: Reply, sentence: str, judged: Mapping[Case, Judged]) -> bool:
    found = judged[_together(reply, sentence, numbers)]
    return isinstance(found, Grounded) and found.faithful


def _there(reply: Reply, numbers: Sequence[int]) -> list[int]:
    """Return the numbers that a passage has."""
    return [number for number in numbers if 1 <= number <= len(reply.passages)]
