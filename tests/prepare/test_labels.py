from math import exp, log

import pytest

from burnish.prepare.labels import Conflict, LabelUse, balance, check_labels
from burnish.records import Labelled
from burnish.tables import read_rows
from real_data import real_data


def rows(side: str, *found: tuple[str, str | tuple[str, ...]]) -> list[Labelled]:
    return [Labelled(id=f"{side}{place}", text=text, label=label) for place, (text, label) in enumerate(found)]


CLEAN = {
    "train": rows("r", ("a one", "x"), ("a two", "x"), ("b one", "y"), ("b two", "y")),
    "test": rows("t", ("a three", "x"), ("b three", "y")),
}


def test_nothing_is_found_where_nothing_is_wrong():
    report = check_labels(CLEAN)
    assert report.clean
    assert report.lines() == []
    assert check_labels({"all": CLEAN["train"]}).clean


def test_a_label_that_train_lacks_is_named_with_the_near_miss():
    report = check_labels(CLEAN | {"dev": rows("d", ("c", "billing"), ("d", "X"), ("e", "billing"))})
    assert report.unknown == (LabelUse("billing", "dev", 2, "d0"), LabelUse("X", "dev", 1, "d1"))
    assert report.lines()[:2] == [
        "dev: label 'billing' (2 rows, the first is 'd0') is not on the train side, and cannot be learned.",
        "dev: label 'X' (1 row, the first is 'd1') is not on the train side, and cannot be learned. Did you mean 'x'?",
    ]
    assert not report.clean


def test_a_class_of_one_side_alone_is_found_on_whichever_side_it_is():
    only = rows("s", ("e", "z"), ("f", "z"))
    report = check_labels({"train": [*CLEAN["train"], *only], "test": [*CLEAN["test"], *rows("o", ("g", "w"))]})
    assert report.one_sided == (LabelUse("z", "train", 2, "s0"), LabelUse("w", "test", 1, "o0"))
    assert "label 'z' stands on the train side alone (2 rows): it is learned and never measured" in report.lines()


def test_a_class_with_one_row_is_tiny():
    report = check_labels({"all": [*CLEAN["train"], *rows("s", ("e", "z"))]})
    assert report.tiny == (LabelUse("z", "all", 1, "s0"),)
    assert report.lines() == ["all: label 'z' has 1 row ('s0'), and 2 or more are needed"]


def test_the_same_text_with_two_labels_is_a_conflict_within_a_side_or_across():
    report = check_labels({**CLEAN, "dev": rows("d", ("A  one!", "y"), ("b three", "y"))})
    assert report.conflicts == (Conflict("a one", (("train", "r0", "x"), ("dev", "d0", "y"))),)
    assert report.lines() == ["the same text has different labels: train 'r0' 'x', dev 'd0' 'y'"]


def test_texts_without_words_are_the_same_only_as_the_same_characters():
    assert check_labels({"all": rows("r", ("!", "x"), ("?", "y"), ("!", "x"), ("?", "y"))}).conflicts == ()
    assert len(check_labels({"all": rows("r", ("!", "x"), ("!", "y"))}).conflicts) == 1


@pytest.mark.parametrize(
    ("labels", "variants"),
    [
        (["card_arrival", "Card Arrival", "card-arrival ", "other"], ("Card Arrival", "card-arrival ", "card_arrival")),
        (["1", "-1", "C", "C++", "c#", "x y", "xy"], None),
        (["ﬁle", "file"], ("file", "ﬁle")),
    ],
)
def test_labels_that_differ_by_spelling_alone_are_found(labels, variants):
    report = check_labels({"all": rows("r", *((f"text {label}", label) for label in labels))})
    assert report.variants == ((variants,) if variants else ())


def test_empty_texts_and_labels_are_found_and_a_row_without_any_label_is_none_of_them():
    report = check_labels({"all": rows("r", (" ", "x"), ("a", "x"), ("b", ""), ("c", ""), ("d", ()))})
    assert report.empty == (("all", "r0"), ("all", "r2"), ("all", "r3"))
    assert "all: row 'r0' has an empty text or label" in report.lines()


def test_several_labels_a_row_are_counted_each_and_compared_as_sets():
    found = rows("r", ("a", ("x", "y")), ("A", ("y", "x")), ("b", ("x",)), ("B!", ("x", "z")))
    report = check_labels({"all": found})
    assert [(use.label, use.rows) for use in report.tiny] == [("z", 1)]
    assert report.conflicts == (Conflict("b", (("all", "r2", "x"), ("all", "r3", "x + z"))),)
    assert [(size.label, size.share) for size in report.balance["all"].classes] == [("x", 1.0), ("y", 0.5), ("z", 0.25)]


def test_more_than_ten_of_a_kind_are_counted():
    report = check_labels({"all": rows("r", *((f"text {place}", f"label {place}") for place in range(14)))})
    assert len(report.lines()) == 11
    assert report.lines()[-1] == "… and 4 more like it"


def test_the_balance_has_counts_shares_ratio_and_effective_numbers():
    found = balance(rows("r", *[("t", "b")] * 6, *[("t", "a")] * 2, *[("t", "c")] * 2))
    assert [(size.label, size.rows, size.share) for size in found.classes] == [
        ("b", 6, 0.6),
        ("a", 2, 0.2),
        ("c", 2, 0.2),
    ]
    assert found.classes[0].effective == pytest.approx(sum(0.999**k for k in range(6)))
    assert found.ratio == 3
    assert found.equal_classes == pytest.approx(exp(-(0.6 * log(0.6) + 0.4 * log(0.2))))
    assert found.lines()[:2] == [
        "10 rows in 3 classes, as varied as 2.6 of equal size; the largest has 3.0 times the rows of the smallest",
        "b: 6 rows, 60.0%, worth 6.0",
    ]
    assert balance(rows("r", ("t", "a"), ("t", "b"))).equal_classes == pytest.approx(2)


def test_without_sides_or_labels_there_is_nothing_to_check():
    with pytest.raises(ValueError, match="at least one side"):
        check_labels({})
    with pytest.raises(ValueError, match="without labels"):
        balance([])
    assert check_labels({"train": CLEAN["train"], "dev": []}).balance.keys() == {"train"}


def test_the_conflicts_of_banking77_are_found():
    folder = real_data("banking77")
    sides = {side: read_rows(folder / f"{side}.csv", Labelled, {"label": "category"}) for side in ("train", "test")}
    report = check_labels(sides)
    assert [row[1] for found in report.conflicts for row in found.rows] == [
        "train:2003",
        "train:3161",
        "test:619",
        "test:2839",
    ]
    assert not (report.unknown or report.one_sided or report.tiny or report.empty or report.variants)
    assert report.balance["train"].ratio == pytest.approx(187 / 35)
