"""More training rows made from those there are: words moved, mistyped or replaced, texts written anew.

For the training side alone, and after the split. A new row keeps its origin's label, is called `origin~1`, and is of
the origin's group, or of the group that the origin's id names where it has none. One that equals a row that is there
already, in normal form, is left out and counted. The same rows and seed give the same new rows; chance depends on seed
and id alone, so that a row more or less changes nothing for the others.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from burnish.prepare.balance import labels_of
from burnish.records import Labelled, Message
from burnish.text import fingerprint, normal, words

MASK = "[MASK]"  # what stands in a text for a word that `fill` is to find

SAME = "equals a row that is there"
EMPTY = "has no words left"
UNFILLED = "has a mask that was not filled"

Rewrite = Callable[[Sequence[str]], Sequence[str]]  # texts in, one text for each out, in the same order

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KEY_OFFSETS = (0.0, 0.25, 0.75)  # of the rows of a keyboard, in keys
_KEY_REACH = 1.3  # in keys: the next ones to the sides, above and below


@dataclass(frozen=True, slots=True)
class Augmented:
    """The new rows alone, and how many were left out for each reason."""

    rows: list[Labelled]
    dropped: Mapping[str, int]


class Writer(Protocol):
    """Anything that answers chat prompts, as the generators of `burnish.generators` do once they are loaded."""

    def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
        """Return the text written after each prompt."""
        ...


def swap_words(
    rows: Sequence[Labelled], *, seed: int, share: float = 0.1, copies: int = 1, existing: Iterable[Labelled] = ()
) -> Augmented:
    """Return rows in which words changed places with one another.

    share: swaps for each word of a text, in (0, 1]; at least one. copies: new rows for each row.
    existing: further rows that no new one may equal, such as those of dev and test, and those made before.
    Source: Wei and Zou 2019 (arXiv 1901.11196), whose α is `share`; they advise .1, and .05 for large training sets.
    """

    def change(text: str, _row: Labelled, draw: Random) -> str:
        found = text.split()
        for _ in range(_count(found, share) if len(found) > 1 else 0):
            one, other = draw.sample(range(len(found)), 2)
            found[one], found[other] = found[other], found[one]
        return " ".join(found)

    return _changed(rows, change, "swap", seed=seed, share=share, copies=copies, existing=existing)


def delete_words(
    rows: Sequence[Labelled], *, seed: int, share: float = 0.1, copies: int = 1, existing: Iterable[Labelled] = ()
) -> Augmented:
    """Return rows without some of their words; one word always stays.

    share: words to leave out of each text, in (0, 1]; at least one. The rest as in `swap_words`; Wei and Zou leave out
    each word with this probability, so that many short texts stay as they are.
    """

    def change(text: str, _row: Labelled, draw: Random) -> str:
        found = text.split()
        gone = draw.sample(range(len(found)), min(_count(found, share), max(len(found) - 1, 0)))
        return " ".join(word for place, word in enumerate(found) if place not in gone)

    return _changed(rows, change, "delete", seed=seed, share=share, copies=copies, existing=existing)


def insert_words(
    rows: Sequence[Labelled], *, seed: int, share: float = 0.1, copies: int = 1, existing: Iterable[Labelled] = ()
) -> Augmented:
    """Return rows with words of their class put in, each at a random place.

    The words are drawn from those of the rows with the same label that the text does not hold itself, each word as
    likely as any other; Wei and Zou put in synonyms, which takes a thesaurus of the language.
    share: words to put in for each word of a text, in (0, 1]; at least one. The rest as in `swap_words`.
    """
    by_label: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for label in labels_of(row):
            by_label[label].update(words(row.text))

    def change(text: str, row: Labelled, draw: Random) -> str:
        found = text.split()
        choice = sorted({word for label in labels_of(row) for word in by_label[label]} - {*words(text)})
        for _ in range(_count(found, share) if choice else 0):
            found.insert(draw.randint(0, len(found)), draw.choice(choice))
        return " ".join(found)

    return _changed(rows, change, "insert", seed=seed, share=share, copies=copies, existing=existing)


def add_typos(
    rows: Sequence[Labelled],
    *,
    seed: int,
    neighbours: float = 0.02,
    swaps: float = 0.01,
    copies: int = 1,
    existing: Iterable[Labelled] = (),
) -> Augmented:
    """Return rows with typing errors; a text that has none by chance is left out, since it equals its origin.

    neighbours: how likely a letter is to become one beside it on an English keyboard, from 0 to 1; letters that are
    not on one stay. swaps: how likely it is to change places with the letter after it. The rest as in `swap_words`.

    Raises:
        ValueError: the two are below 0 or together above 1.
    """
    if min(neighbours, swaps) < 0 or neighbours + swaps > 1:
        raise ValueError(f"neighbours and swaps are rates from 0 to 1 together (found {neighbours} and {swaps})")

    def change(text: str, _row: Labelled, draw: Random) -> str:
        signs = list(text)
        place = 0
        while place < len(signs):
            sign, chance = signs[place], draw.random()
            if chance < neighbours and sign.lower() in _NEAR:
                near = draw.choice(_NEAR[sign.lower()])
                signs[place] = near.upper() if sign.isupper() else near
            elif neighbours <= chance < neighbours + swaps and "".join(signs[place : place + 2]).isalpha():
                signs[place : place + 2] = reversed(signs[place : place + 2])
                place += 1  # a letter moves once
            place += 1
        return "".join(signs)

    return _changed(rows, change, "typo", seed=seed, share=1.0, copies=copies, existing=existing)


def fill_masks(
    rows: Sequence[Labelled],
    fill: Rewrite,
    *,
    seed: int,
    share: float = 0.15,
    copies: int = 1,
    existing: Iterable[Labelled] = (),
) -> Augmented:
    """Return rows in which a language model replaced some words by others that fit.

    fill: gets texts with MASK for each missing word, and returns them with words there; `models.fill.load_filler` makes
    one of any masked language model. It hears of no label, so that a word which decides the label may be lost.
    share: words to replace in each text, in (0, 1]; at least one. The rest as in `swap_words`.
    """

    def change(text: str, _row: Labelled, draw: Random) -> str:
        spans = [found.span() for found in _WORD.finditer(text)]
        chosen = draw.sample(spans, min(_count(spans, share), len(spans)))
        for start, end in sorted(chosen, reverse=True):
            text = text[:start] + MASK + text[end:]
        return text

    masked = _drafts(rows, change, "mask", seed=seed, share=share, copies=copies)
    return _kept(rows, [row for row, _ in masked], _rewritten([text for _, text in masked], fill), existing)


def rewrite(rows: Sequence[Labelled], write: Rewrite, *, existing: Iterable[Labelled] = ()) -> Augmented:
    """Return rows whose texts were written anew: a paraphrase, or a translation there and back.

    write: any function from texts to texts, such as `asking` makes of a generator; for two translators it is
    `lambda texts: back(forth(texts))`. existing: as in `swap_words`.
    """
    return _kept(rows, rows, _rewritten([row.text for row in rows], write), existing)


def asking(writer: Writer, instruction: str) -> Rewrite:
    """Return a function that has a generator follow an instruction for each text: `Say this in other words.`."""
    system = Message(role="system", content=instruction)

    def write(texts: Sequence[str]) -> list[str]:
        prompts = [(system, Message(role="user", content=text)) for text in texts]
        return writer.write(prompts, done=lambda _: None)

    return write


_Change = Callable[[str, Labelled, Random], str]


def _changed(
    rows: Sequence[Labelled],
    change: _Change,
    kind: str,
    *,
    seed: int,
    share: float,
    copies: int,
    existing: Iterable[Labelled],
) -> Augmented:
    """Return the rows that a change makes of others."""
    drafts = _drafts(rows, change, kind, seed=seed, share=share, copies=copies)
    return _kept(rows, [row for row, _ in drafts], [text for _, text in drafts], existing)


def _drafts(
    rows: Sequence[Labelled], change: _Change, kind: str, *, seed: int, share: float, copies: int
) -> list[tuple[Labelled, str]]:
    """Return each row as often as it is to be copied, with its text changed; chance depends on seed and id alone.

    Raises:
        ValueError: the share is not in (0, 1], or copies are below 1.
    """
    if not 0 < share <= 1 or copies < 1:
        raise ValueError(f"share must be in (0, 1] and copies at least 1 (found {share} and {copies})")
    return [
        (row, change(row.text, row, Random(fingerprint(str(seed), kind, row.id, str(copy)))))
        for row in rows
        for copy in range(copies)
    ]


def _kept(
    rows: Sequence[Labelled], origins: Sequence[Labelled], texts: Sequence[str], existing: Iterable[Labelled]
) -> Augmented:
    """Return the new rows that say something new."""
    known = [*rows, *existing]
    seen = {normal(row.text) for row in known}
    taken = {row.id for row in known}
    number: Counter[str] = Counter()
    dropped: Counter[str] = Counter({SAME: 0, EMPTY: 0})
    made = []
    for row, text in zip(origins, texts, strict=True):
        form = normal(text)
        if MASK in text and MASK not in row.text:
            dropped[UNFILLED] += 1
        elif not form:
            dropped[EMPTY] += 1
        elif form in seen:
            dropped[SAME] += 1
        else:
            seen.add(form)
            number[row.id] += 1
            while f"{row.id}~{number[row.id]}" in taken:
                number[row.id] += 1
            update = {"id": f"{row.id}~{number[row.id]}", "group": row.group or row.id, "text": text}
            made.append(row.model_copy(update=update))
    return Augmented(made, dict(dropped))


def _rewritten(texts: Sequence[str], write: Rewrite) -> list[str]:
    """Return what a function makes of the texts.

    Raises:
        ValueError: it does not return one text for each.
    """
    found = list(write(texts))
    if len(found) != len(texts):
        raise ValueError(f"a function from texts to texts returned {len(found)} for {len(texts)}")
    return found


def _count(found: Sequence[object], share: float) -> int:
    """Return how many of these a share is, at least one."""
    return max(round(len(found) * share), 1)


def _neighbours() -> dict[str, list[str]]:
    """Return the letters beside each letter on an English keyboard."""
    places = {
        key: (column + offset, row)
        for row, (keys, offset) in enumerate(zip(_KEYS, _KEY_OFFSETS, strict=True))
        for column, key in enumerate(keys)
    }
    return {
        key: [
            other
            for other, (across, down) in places.items()
            if other != key and (across - x) ** 2 + (down - y) ** 2 <= _KEY_REACH**2
        ]
        for key, (x, y) in places.items()
    }


_NEAR = _neighbours()
