import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from burnish.models import fill
from burnish.prepare.augment import (
    EMPTY,
    MASK,
    SAME,
    UNFILLED,
    Augmented,
    add_typos,
    asking,
    delete_words,
    fill_masks,
    insert_words,
    rewrite,
    swap_words,
)
from burnish.records import Labelled, Message
from burnish.text import normal

TEXT = "the quick brown fox, jumps over THE lazy dog's bed; twice a day"
OTHERS = [
    "a slow green turtle walks under one eager cat now",
    "why would any whale ever sing so loudly at night",
    "nobody here knows what the old painter meant by his last words",
]


def rows() -> list[Labelled]:
    return [
        Labelled(id="a", text=TEXT, label="x"),
        Labelled(id="b", text=OTHERS[0], label="x", group="g"),
        Labelled(id="c", text=OTHERS[1], label="y"),
        Labelled(id="d", text=OTHERS[2], label="y"),
    ]


def blues(texts: Sequence[str]) -> list[str]:
    return [text.replace(MASK, "blue") for text in texts]


MAKERS: dict[str, Callable[..., Augmented]] = {
    "swap": swap_words,
    "delete": delete_words,
    "insert": insert_words,
    "typo": lambda rows, **options: add_typos(rows, neighbours=0.3, **options),
    "mask": lambda rows, **options: fill_masks(rows, blues, **options),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@every_maker
def test_new_rows_name_their_origin_and_keep_its_label_and_group(make):
    found = make(rows(), seed=1, copies=2)
    assert [row.id for row in found.rows] == ["a~1", "a~2", "b~1", "b~2", "c~1", "c~2", "d~1", "d~2"]
    assert [(row.label, row.group) for row in found.rows[::2]] == [("x", "a"), ("x", "g"), ("y", "c"), ("y", "d")]


@every_maker
def test_no_new_row_equals_another_and_what_does_is_counted(make):
    short = [Labelled(id=str(place), text=text, label="x") for place, text in enumerate(["a b", "b a", "a", "B, a!"])]
    found = make(short, seed=0, copies=8)
    forms = [normal(row.text) for row in [*short, *found.rows]]
    assert len(set(forms[4:])) == len(found.rows)
    assert not {*forms[:4]} & {*forms[4:]}
    assert len(found.rows) + sum(found.dropped.values()) == 8 * len(short)


@every_maker
def test_what_stands_in_dev_or_test_is_not_made_and_ids_go_on(make):
    first = make(rows(), seed=0).rows
    again = make(rows(), seed=0, copies=2, existing=first)
    assert again.dropped[SAME] >= 4
    assert {row.id for row in again.rows} <= {"a~2", "b~2", "c~2", "d~2"}
    assert not {normal(row.text) for row in again.rows} & {normal(row.text) for row in first}


@every_maker
def test_chance_depends_on_seed_and_id_alone(make):
    found = rows()

    def texts(given: Sequence[Labelled], seed: int) -> dict[str, str]:
        return {row.id: row.text for row in make(given, seed=seed).rows}

    random.seed(1)
    one = texts(found, 0)
    random.seed(2)
    assert texts(found[::-1], 0) == one != texts(found, 1)
    assert texts([found[0], *found[2:]], 0)["c~1"] == one["c~1"]


@every_maker
def test_a_share_that_is_none_is_an_error(make):
    with pytest.raises(ValueError, match=r"copies at least 1 \(found .* and 0\)"):
        make(rows(), seed=0, copies=0)
    assert make([], seed=0).rows == []


@pytest.mark.parametrize("make", [swap_words, delete_words, insert_words])
def test_a_share_must_be_above_zero_and_at_most_one(make):
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
            make(rows(), seed=0, share=share)


def test_swapping_keeps_every_word():
    for row in swap_words(rows()[:1], seed=3, copies=5).rows:
        assert Counter(row.text.split()) == Counter(TEXT.split())
        assert sum(one != other for one, other in zip(row.text.split(), TEXT.split(), strict=True)) == 2


def test_deleting_takes_the_share_of_the_words_and_keeps_one():
    [row] = delete_words(rows()[:1], seed=0, share=0.25).rows
    remaining = iter(TEXT.split())
    assert all(word in remaining for word in row.text.split())  # in their order
    assert len(row.text.split()) == 13 - 3
    assert len(delete_words(rows()[:1], seed=0, share=1.0).rows[0].text.split()) == 1


def test_inserting_takes_words_of_the_same_class():
    new = insert_words(rows()[:1] + rows()[1:], seed=0, share=0.5)
    words = Counter(normal(new.rows[0].text).split()) - Counter(normal(TEXT).split())
    assert sum(words.values()) == round(13 * 0.5)
    assert set(words) <= set(OTHERS[0].split())
    alone = insert_words([Labelled(id="a", text="only words of its own", label="z")], seed=0)
    assert alone.dropped == {SAME: 1, EMPTY: 0}


def test_inserting_takes_words_of_any_of_several_labels():
    several = [
        Labelled(id="a", text="one", label=("x", "y")),
        Labelled(id="b", text="two", label=("x",)),
        Labelled(id="c", text="three", label=("y", "z")),
    ]
    made = {row.text for row in insert_words(several[:1] + several[1:], seed=0, copies=40).rows}
    assert {"one two", "two one", "one three", "three one"} <= made


def test_typing_errors_are_neighbouring_keys_or_swapped_letters():
    text = "Say it with the Keys of an English Keyboard " * 20
    [row] = add_typos([Labelled(id="a", text=text, label="x")], seed=0, neighbours=0.1, swaps=0).rows
    changed = [(old, new) for old, new in zip(text, row.text, strict=True) if old != new]
    letters = sum(sign.isalpha() for sign in text)
    assert 0.07 < len(changed) / letters < 0.13
    assert all(old.isupper() == new.isupper() for old, new in changed)
    assert {new for old, new in changed if old == "s"} <= set("adwezx")
    [swapped] = add_typos([Labelled(id="a", text=text, label="x")], seed=0, neighbours=0, swaps=0.1).rows
    assert Counter(swapped.text) == Counter(text)
    assert [len(word) for word in swapped.text.split()] == [len(word) for word in text.split()]


def test_letters_of_other_keyboards_stay_and_may_be_swapped():
    russian = Labelled(id="a", text="добрый вечер", label="x")
    assert add_typos([russian], seed=0, neighbours=1.0, swaps=0).dropped[SAME] == 1
    assert len(add_typos([russian], seed=0, neighbours=0, swaps=1.0).rows) == 1
    with pytest.raises(ValueError, match="rates from 0 to 1 together"):
        add_typos([russian], seed=0, neighbours=0.8, swaps=0.3)


def test_masks_stand_for_whole_words_between_their_signs():
    asked: list[str] = []

    def keep(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return blues(texts)

    [row] = fill_masks(rows()[:1], keep, seed=4, share=0.3).rows
    assert asked[0].count(MASK) == round(13 * 0.3)
    assert row.text == asked[0].replace(MASK, "blue")
    assert [one for one in asked[0].split() if MASK not in one] == [
        other for one, other in zip(asked[0].split(), TEXT.split(), strict=True) if MASK not in one
    ]


def test_a_mask_that_is_left_and_a_text_without_words_are_dropped():
    assert fill_masks(rows(), list, seed=0).dropped == {SAME: 0, EMPTY: 0, UNFILLED: 4}
    assert rewrite(rows(), lambda texts: ["?!" for _ in texts]).dropped == {SAME: 0, EMPTY: 4}


def test_texts_are_written_anew_by_any_function():
    found = rewrite(rows(), lambda texts: [text.upper() if "fox" in text else f"in short: {text}" for text in texts])
    assert [(row.id, row.text[:9]) for row in found.rows] == [
        ("b~1", "in short:"),
        ("c~1", "in short:"),
        ("d~1", "in short:"),
    ]
    assert found.dropped == {SAME: 1, EMPTY: 0}
    with pytest.raises(ValueError, match="returned 1 for 4"):
        rewrite(rows(), lambda texts: list(texts)[:1])


def test_a_generator_is_asked_with_an_instruction():
    class Echo:
        def write(self, prompts: Sequence[Sequence[Message]], *, done: Callable[[int], None]) -> list[str]:
            done(len(prompts))
            return [f"{prompt[0].content} {prompt[1].content}" for prompt in prompts]

    [row] = rewrite(rows()[1:2], asking(Echo(), "Say in other words:")).rows
    assert row.text == f"Say in other words: {OTHERS[0]}"


def test_the_sign_for_a_missing_word_is_the_one_that_models_fill():
    assert fill.MASK == MASK
