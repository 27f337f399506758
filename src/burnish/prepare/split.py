"""Splits in which nothing that belongs together stands on two sides."""

from collections import Counter
from collections.abc import Mapping, Sequence

from burnish.errors import DataError
from burnish.text import fingerprint

_LARGEST_PART = 0.25  # of a side's target: one group should not speak for a whole side


def split(groups: Sequence[str], *, shares: Mapping[str, float], seed: int) -> list[str]:
    """Return the side of each row, such that rows of one group stand on one side.

    groups: one name a row. shares: side to its share of the rows; the shares need not add up to 1.
    Groups come in an order made by a hash of name and seed, and each goes to the side with the largest part of its
    target still open, among those with room for it of which it fills no more than a quarter; a group that fits
    nowhere goes where most rows are still open. So big groups end up on the big side, the small sides hold several
    groups each, and the order of the rows does not matter. No side stays empty.

    Raises:
        DataError: a share is not above 0, or there are fewer groups than sides.
    """
    total_share = sum(shares.values())
    if not shares or min(shares.values()) <= 0:
        raise DataError(f"a split needs sides with shares above 0 (found {dict(shares)})")
    sizes = Counter(groups)
    if len(sizes) < len(shares):
        raise DataError(
            f"{len(sizes)} group(s) cannot be split into {len(shares)} sides ({', '.join(shares)}): each side needs a "
            "group of its own. Give more groups or fewer sides"
        )
    targets = {side: len(groups) * share / total_share for side, share in shares.items()}
    open_rows = dict(targets)
    side_of: dict[str, str] = {}
    for name in sorted(sizes, key=lambda name: (fingerprint(str(seed), name), name)):
        size = sizes[name]
        fitting = [side for side in shares if size <= min(open_rows[side], targets[side] * _LARGEST_PART)]
        if fitting:
            side = max(fitting, key=lambda side: open_rows[side] / targets[side])
        else:
            side = max(shares, key=lambda side: open_rows[side])
        side_of[name] = side
        open_rows[side] -= size
    _fill_empty_sides(side_of, sizes, list(shares))
    return [side_of[name] for name in groups]


def _fill_empty_sides(side_of: dict[str, str], sizes: Mapping[str, int], sides: Sequence[str]) -> None:
    """Give each empty side the smallest group of the side that has the most groups; changes `side_of`."""
    for side in sides:
        if side in side_of.values():
            continue
        counts = Counter(side_of.values())
        richest = max(sides, key=lambda other: counts[other])
        smallest = min((name for name in side_of if side_of[name] == richest), key=lambda name: (sizes[name], name))
        side_of[smallest] = side
