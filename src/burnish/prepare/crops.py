"""Pairs without labels: two pieces of one document, which belong together more than pieces of two."""

import random
from collections.abc import Sequence

from pydantic import Field

from burnish.records import Chunk, Pair
from burnish.spec import Spec


class Crops(Spec):
    """How pieces are drawn: independently of each other, so that they may overlap or be far apart.

    Each holds between `least` and `most` of the document's words in a row, of which `deleted` are then left out, each
    by chance. Source: Contriever (Izacard et al. 2022, arXiv 2112.09118), with its numbers.
    """

    per_passage: int = Field(default=1, ge=1)
    least: float = Field(default=0.05, gt=0, le=1)
    most: float = Field(default=0.5, gt=0, le=1)
    deleted: float = Field(default=0.1, ge=0, lt=1)
    fewest_words: int = Field(default=4, ge=1)  # of a piece; a document with fewer than twice as many is left out


def crop_pairs(chunks: Sequence[Chunk], settings: Crops, *, seed: int) -> tuple[list[Pair], int]:
    """Return pairs of pieces, and how many passages were too short for them.

    What is drawn for a passage depends on the seed, its id and its text alone. The title is part of the text.
    """
    pairs, short = [], 0
    for chunk in chunks:
        found = f"{chunk.title} {chunk.text}".split()
        if len(found) < 2 * settings.fewest_words:
            short += 1
            continue
        chance = random.Random(f"{seed} {chunk.id} {len(found)}")
        for number in range(settings.per_passage):
            query, positive = _crop(found, settings, chance), _crop(found, settings, chance)
            if query == positive:  # teaches nothing; a second draw nearly always differs
                positive = _crop(found, settings, chance)
            pairs.append(Pair(id=f"{chunk.id}#{number}", query=query, positives=(positive,)))
    return pairs, short


def _crop(found: Sequence[str], settings: Crops, chance: random.Random) -> str:
    """Return one piece of a text that is given as words."""
    share = chance.uniform(settings.least, max(settings.least, settings.most))
    size = min(len(found), max(settings.fewest_words, round(share * len(found))))
    start = chance.randrange(len(found) - size + 1)
    piece = found[start : start + size]
    kept = [word for word in piece if chance.random() >= settings.deleted]
    return " ".join(kept or piece)
