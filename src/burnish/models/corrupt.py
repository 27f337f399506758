"""Texts with holes to fill: hidden tokens for an encoder, left-out spans for an encoder-decoder.

How much is hidden follows from the length alone, so that a batch's units are known before anything is drawn; where
it is hidden is drawn.
"""

from collections.abc import Sequence
from itertools import pairwise

from numpy.random import Generator

SHARE = 0.15  # of the tokens, in BERT and T5
MASKED, REPLACED = 0.8, 0.1  # of the hidden tokens; the rest stays as it is
SPAN_TOKENS = 3  # mean length of a span that is left out


def hidden_count(tokens: int) -> int:
    """Return how many of so many tokens are hidden: 15 %, rounded, and at least one."""
    return max(1, round(SHARE * tokens))


def hide_tokens(
    ids: Sequence[int], *, allowed: Sequence[int], mask: int, words: Sequence[int], draw: Generator
) -> tuple[list[int], list[int]]:
    """Return the ids with some hidden, and the places of those in rising order (Devlin et al. 2019, arXiv 1810.04805).

    Of the hidden tokens each becomes, on its own, the mask with 80 %, one of `words` with 10 %, and stays with 10 %.
    allowed: the places that may be hidden, at least one.
    """
    places = sorted(draw.choice(len(allowed), size=hidden_count(len(allowed)), replace=False).tolist())
    seen = list(ids)
    found = [allowed[place] for place in places]
    for place in found:
        fate = draw.random()
        if fate < MASKED:
            seen[place] = mask
        elif fate < MASKED + REPLACED:
            seen[place] = words[int(draw.integers(len(words)))]
    return seen, found


def span_counts(tokens: int) -> tuple[int, int]:
    """Return how many of so many tokens (two or more) are left out, and in how many spans: 15 %, three to a span."""
    left_out = min(hidden_count(tokens), tokens - 1)
    spans = max(1, round(left_out / SPAN_TOKENS))
    return left_out, min(spans, left_out, tokens - left_out)


def leave_out_spans(ids: Sequence[int], *, sentinels: Sequence[int], draw: Generator) -> tuple[list[int], list[int]]:
    """Return what the encoder reads and what the decoder writes (Raffel et al. 2020, arXiv 1910.10683).

    Each left-out stretch is a sentinel in the input; the target has each sentinel followed by what stood there.
    Neither holds an end token. Kept and left-out stretches take turns. Unlike in T5's code, either may come first and
    last: with one span, which is all that a short text has, the end of the text would be left out each time.
    """
    left_out, spans = span_counts(len(ids))
    kept = _parts(len(ids) - left_out + 2, spans + 1, draw)
    kept[0], kept[-1] = kept[0] - 1, kept[-1] - 1  # the outer two may be empty
    gone = _parts(left_out, spans, draw)
    seen: list[int] = []
    target: list[int] = []
    place = 0
    for sentinel, stays, goes in zip(sentinels[:spans], kept[:-1], gone, strict=True):
        seen += [*ids[place : place + stays], sentinel]
        target += [sentinel, *ids[place + stays : place + stays + goes]]
        place += stays + goes
    return [*seen, *ids[place:]], target


def _parts(total: int, parts: int, draw: Generator) -> list[int]:
    """Return positive whole numbers that add up to the total, each way of doing so being equally likely."""
    cuts = sorted(draw.choice(total - 1, size=parts - 1, replace=False).tolist()) if parts > 1 else []
    return [after - before for before, after in pairwise([0, *(cut + 1 for cut in cuts), total])]
