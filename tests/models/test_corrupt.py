from collections import Counter
from itertools import pairwise

import pytest
from numpy.random import PCG64, Generator

from burnish.models.corrupt import _parts, hidden_count, hide_tokens, leave_out_spans, span_counts

IDS = list(range(100, 140))
MASK, WORDS, SENTINELS = 4, (50, 51, 52), tuple(range(900, 950))


def draw(seed: int) -> Generator:
    return Generator(PCG64(seed))


def test_fifteen_percent_are_hidden_and_at_least_one():
    assert [hidden_count(n) for n in (1, 3, 10, 40, 100)] == [1, 1, 2, 6, 15]


@pytest.mark.parametrize("seed", range(5))
def test_hidden_places_are_among_those_allowed_and_the_rest_stays(seed: int):
    allowed = list(range(1, 39, 2))
    seen, places = hide_tokens(IDS, allowed=allowed, mask=MASK, words=WORDS, draw=draw(seed))
    assert len(places) == hidden_count(len(allowed))
    assert places == sorted(set(places))
    assert set(places) <= set(allowed)
    assert all(seen[place] == IDS[place] for place in range(40) if place not in places)
    assert all(seen[place] in {IDS[place], MASK, *WORDS} for place in places)


def test_of_the_hidden_tokens_four_fifths_are_masked_and_a_tenth_replaced():
    fates: Counter[str] = Counter()
    ids = list(range(100, 300))
    for seed in range(300):
        seen, places = hide_tokens(ids, allowed=range(200), mask=MASK, words=WORDS, draw=draw(seed))
        for place in places:
            fates["mask" if seen[place] == MASK else "stays" if seen[place] == ids[place] else "word"] += 1
    total = fates.total()
    assert total == 300 * 30
    for fate, share in (("mask", 0.8), ("word", 0.1), ("stays", 0.1)):
        assert fates[fate] / total == pytest.approx(share, abs=0.015)


def test_every_place_is_hidden_alike():
    found: Counter[int] = Counter()
    for seed in range(2000):
        found.update(hide_tokens(IDS[:10], allowed=range(10), mask=MASK, words=WORDS, draw=draw(seed))[1])
    assert all(count == pytest.approx(400, abs=80) for count in found.values())
    assert len(found) == 10


@pytest.mark.parametrize(
    ("tokens", "expected"), [(2, (1, 1)), (3, (1, 1)), (10, (2, 1)), (40, (6, 2)), (512, (77, 26))]
)
def test_three_tokens_are_left_out_to_a_span(tokens: int, expected: tuple[int, int]):
    assert span_counts(tokens) == expected


@pytest.mark.parametrize("length", [2, 3, 7, 20, 40])
@pytest.mark.parametrize("seed", range(5))
def test_what_was_left_out_can_be_put_back(length: int, seed: int):
    ids = IDS[:length]
    seen, target = leave_out_spans(ids, sentinels=SENTINELS, draw=draw(seed))
    left_out, spans = span_counts(length)
    assert len(target) == left_out + spans
    assert len(seen) == length - left_out + spans
    assert [token for token in seen if token in SENTINELS] == list(SENTINELS[:spans])
    assert [token for token in target if token in SENTINELS] == list(SENTINELS[:spans])
    assert all(not {a, b} <= {*SENTINELS} for a, b in pairwise(seen))  # two spans never touch
    parts: dict[int, list[int]] = {}
    for token in target:
        if token in SENTINELS:
            parts[token] = []
        else:
            parts[[*parts][-1]].append(token)
    assert all(parts.values())
    back = [found for token in seen for found in parts.get(token, [token])]
    assert back == ids


@pytest.mark.parametrize("length", [2, 5, 12, 30])
def test_any_place_can_be_left_out(length: int):
    ids = IDS[:length]
    found: set[int] = set()
    for seed in range(300):
        found.update(leave_out_spans(ids, sentinels=SENTINELS, draw=draw(seed))[1])
    assert found - {*SENTINELS} == set(ids)


def test_every_way_to_cut_is_equally_likely():
    found = Counter(tuple(_parts(5, 3, draw(seed))) for seed in range(3000))
    assert set(found) == {(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}
    assert all(count == pytest.approx(500, abs=90) for count in found.values())
    assert _parts(4, 1, draw(0)) == [4]


def test_the_same_draw_hides_the_same():
    first, again, other = (
        hide_tokens(IDS, allowed=range(40), mask=MASK, words=WORDS, draw=draw(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
