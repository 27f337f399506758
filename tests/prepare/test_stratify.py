import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product
from statistics import mean

import pytest
from sklearn.model_selection import StratifiedGroupKFold

from burnish.errors import DataError
from burnish.prepare.augment import add_typos
from burnish.prepare.balance import labels_of, oversample
from burnish.prepare.leaks import Text, leaks
from burnish.prepare.split import split
from burnish.prepare.stratify import joined_groups, label_gap, split_labelled, split_stratified
from burnish.records import Labelled
from burnish.tables import read_rows
from real_data import real_data

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}
FREQUENCY = {"a": 100, "b": 60, "c": 30, "d": 20, "e": 10, "f": 5, "g": 3, "h": 2}


def unbalanced(seed: int, *, several: bool = False) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return 300 groups of 1 to 15 rows, each with a label of its own for 7 rows of 10."""
    draw = random.Random(seed)

    def label() -> str:
        return draw.choices(list(FREQUENCY), list(FREQUENCY.values()))[0]

    groups, labels = [], []
    for number in range(300):
        own = label()
        for _ in range(draw.randint(1, 15)):
            found = {own if draw.random() < 0.7 else label()} | ({label()} if several else set())
            groups.append(f"g{number}")
            labels.append(tuple(sorted(found)))
    return groups, labels


def shares_of(sides: Sequence[str]) -> dict[str, float]:
    return {side: count / len(sides) for side, count in Counter(sides).items()}


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_labels_are_kept_far_closer_than_by_a_random_split_of_groups(several):
    gaps = defaultdict(list)
    for seed in range(5):
        groups, labels = unbalanced(seed, several=several)
        sides = split_stratified(groups, labels, shares=SHARES, seed=seed)
        assert shares_of(sides) == pytest.approx(SHARES, abs=0.002)
        assert all(len(found) == 1 for found in sides_by_group(groups, sides).values())
        gaps["ours"].append(label_gap(labels, sides))
        gaps["random"].append(label_gap(labels, split(groups, shares=SHARES, seed=seed)))
    assert max(gaps["ours"]) < 0.02
    assert mean(gaps["ours"]) < mean(gaps["random"]) / 5


def sides_by_group(groups: Sequence[str], sides: Sequence[str]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for group, side in zip(groups, sides, strict=True):
        found[group].add(side)
    return found


def test_folds_are_as_even_as_those_of_scikit_learn():
    groups, labels = unbalanced(0)
    plain = [label for (label,) in labels]
    folds = [""] * len(plain)
    for fold, (_, held) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(plain, plain, groups)):
        for place in held:
            folds[place] = str(fold)
    ours = split_stratified(groups, labels, shares=dict.fromkeys("01234", 1.0), seed=0)
    assert label_gap(labels, ours) < 1.3 * label_gap(labels, folds)


def test_a_small_case_is_split_as_well_as_the_best_of_all_splits():
    labels = [("x",)] * 6 + [("y",)] * 4
    groups = [*"aabbcd", *"eefg"]
    names = sorted(set(groups))
    best = min(
        label_gap(labels, [dict(zip(names, choice, strict=True))[group] for group in groups])
        for choice in product("01", repeat=len(names))
        if Counter(dict(zip(names, choice, strict=True))[group] for group in groups) == {"0": 5, "1": 5}
    )
    assert label_gap(labels, split_stratified(groups, labels, shares={"0": 1, "1": 1}, seed=0)) == best == 0


@pytest.mark.parametrize(("classes", "rows"), [(10, 2), (50, 2), (40, 3)])
def test_tiny_classes_all_have_a_row_to_learn_from(classes, rows):
    labels = [(f"l{number}",) for number in range(classes) for _ in range(rows)]
    sides = split_stratified([str(place) for place in range(len(labels))], labels, shares=SHARES, seed=0)
    assert len({label for label, side in zip(labels, sides, strict=True) if side == "train"}) == classes
    assert shares_of(sides) == pytest.approx(SHARES)


def test_the_seed_matters_and_the_order_of_the_rows_does_not():
    groups, labels = unbalanced(0)
    mixed = random.Random(3).sample(range(len(groups)), len(groups))

    def side_of(order: Sequence[int], seed: int) -> dict[str, str]:
        given = [groups[place] for place in order]
        return dict(
            zip(given, split_stratified(given, [labels[p] for p in order], shares=SHARES, seed=seed), strict=True)
        )

    assert side_of(range(len(groups)), 1) == side_of(mixed, 1) != side_of(mixed, 2)


def test_rows_without_labels_fill_the_sides_too():
    sides = split_stratified([str(place) for place in range(100)], [()] * 100, shares=SHARES, seed=0)
    assert Counter(sides) == {"train": 80, "dev": 10, "test": 10}


def test_no_side_stays_empty():
    labels = [("x",)] * 30
    assert set(split_stratified([*"a" * 20, *"b" * 9, "c"], labels, shares=SHARES, seed=0)) == set(SHARES)


def test_near_duplicates_and_groups_are_joined_through_each_other():
    first = "How do I reset the password of my account"
    rows = [
        Labelled(id="1", text=first, label="x"),
        Labelled(id="2", text=first + "s", label="y", group="g"),
        Labelled(id="3", text="something else altogether", label="x", group="g"),
        Labelled(id="4", text="no relation at all", label="y"),
    ]
    assert joined_groups(rows) == ["1", "1", "1", "4"]
    assert joined_groups(rows, threshold=None) == ["1", "g", "g", "4"]
    assert joined_groups(rows[::-1]) == ["4", "1", "1", "1"]


def test_copies_and_augmented_rows_stay_with_their_origin():
    rows = [Labelled(id=str(place), text=f"word{place} of many", label="xxy"[place % 3]) for place in range(60)]
    copied = oversample(rows, ratio=1, seed=0).rows
    noisy = [*rows, *add_typos(rows, seed=0, neighbours=0.3).rows]
    for found in (copied, noisy):
        sides = split_labelled(found, shares=SHARES, seed=0, threshold=None)
        side_of = dict(zip((row.id for row in found), sides, strict=True))
        assert all(side == side_of[key.split("#")[0].split("~")[0]] for key, side in side_of.items())


def test_what_cannot_be_split_is_an_error():
    with pytest.raises(DataError, match=r"1 group\(s\) cannot be split into 3 sides .* near-duplicates are of one"):
        split_labelled([Labelled(id="1", text="a", label="x")], shares=SHARES, seed=0)
    with pytest.raises(DataError, match="shares above 0"):
        split_stratified(["a", "b"], [("x",), ("x",)], shares={"train": 1, "dev": 0}, seed=0)


def test_the_gap_is_zero_for_equal_shares_and_one_where_nothing_is_shared():
    assert label_gap([("x",), ("y",), ("x",), ("y",)], ["a", "a", "b", "b"]) == 0
    assert label_gap([("x",), ("y",)], ["a", "b"]) == 0.5
    many = [(str(place),) for place in range(100)]
    assert label_gap(many, [str(place) for place in range(100)]) == pytest.approx(0.99)
    assert label_gap([], []) == 0


def test_banking77_is_split_without_leaks_and_with_its_labels_kept():
    rows = read_rows(real_data("banking77") / "test.csv", Labelled, {"label": "category"})
    sides = split_labelled(rows, shares=SHARES, seed=0)
    labels = [labels_of(row) for row in rows]
    assert shares_of(sides) == pytest.approx(SHARES, abs=0.002)
    assert label_gap(labels, sides) < 0.01 < label_gap(labels, split(joined_groups(rows), shares=SHARES, seed=0))
    parts = {
        side: [Text(row.id, row.text) for row, own in zip(rows, sides, strict=True) if own == side] for side in SHARES
    }
    assert leaks(parts["test"], [*parts["train"], *parts["dev"]]) == []
