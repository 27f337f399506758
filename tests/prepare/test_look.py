from collections.abc import Sequence

import pytest

from burnish.errors import DataError
from burnish.prepare.look import Look, common_labels, look, main_text, read_texts
from burnish.prepare.scripts import script_shares
from burnish.prepare.sides import leaked, sides_of
from burnish.records import Completion, Document, Extraction, Labelled, Message, Pair, Record, Scored, Span

SHARES = {"train": 0.6, "dev": 0.2, "test": 0.2}
CHAT = (Message(role="system", content="be kind"), Message(role="user", content="who?"))


def labelled(*said: tuple[str, str]) -> list[Labelled]:
    return [Labelled(id=f"r{n}", text=text, label=label) for n, (text, label) in enumerate(said)]


def spread(count: int, labels: Sequence[str]) -> list[Labelled]:
    return labelled(*((f"number {chr(97 + n % 26)}{n} of {n * n}", labels[n % len(labels)]) for n in range(count)))


def test_shares_of_scripts_are_those_of_the_letters():
    assert script_shares(["abc де", "12 ?!"]) == {"Latin": 0.6, "Cyrillic": 0.4}
    assert list(script_shares(["漢字かなカナ", "ꦗ"])) == ["Han", "Hiragana", "Katakana", "other"]
    assert script_shares(["12", ""]) == {}


@pytest.mark.parametrize(
    ("row", "text", "read"),
    [
        (Labelled(id="1", text="a", label="x"), "a", ["a"]),
        (Scored(id="1", text="a", pair="b", score=1), "a\nb", ["a\nb"]),
        (Scored(id="1", text="a", score=1), "a", ["a"]),
        (Completion(id="1", prompt=CHAT, completion="me"), "who?", ["be kind\nwho?\nme"]),
        (Pair(id="1", query="q", positives=("p",), negatives=("n",)), "q", ["q", "p", "n"]),
        (Extraction(id="1", question="q", context="c", answers=(Span(text="c", start=0),)), "c", ["q\nc"]),
        (Document(id="1", text="a"), "a", ["a"]),
    ],
)
def test_each_record_has_a_main_text_and_texts_that_are_read(row: Record, text: str, read: list[str]):
    assert main_text(row) == text
    assert read_texts(row) == read
    assert look([row]).stand_ins[0].text == text


def test_copies_and_contradictions_are_counted():
    seen = look(labelled(("the cat", "x"), ("The cat!", "x"), ("the cat", "y"), ("dog", "x")))
    assert (seen.copies, seen.contradictions) == (2, 1)
    assert len(set(seen.units)) == 2
    assert seen.labels is not None
    assert len(seen.labels.conflicts) == 1
    assert (seen.many, seen.unbalance) == (False, 3.0)
    scores = [Scored(id=str(n), text="same", score=score) for n, score in enumerate((1, 1, 2))]
    assert (look(scores).copies, look(scores).contradictions) == (2, 1)
    assert look(scores).unbalance == 1.0


def test_scores_are_split_by_fifths():
    rows = [Scored(id=str(n), text=f"text {n * n}", score=n) for n in range(50)]
    assert [row.label for row in look(rows).stand_ins][::10] == ["0", "1", "2", "3", "4"]


def test_the_commonest_labels_are_those_given_together():
    rows = [Labelled(id=str(n), text="a", label=label) for n, label in enumerate((("x", "y"), ("x",), ("x", "y")))]
    assert common_labels(rows) == ("x", "y")


def split(seen: Look) -> list[str]:
    return sides_of(seen, SHARES, seed=0)[0]


def test_every_label_that_is_measured_is_learned():
    rows = [*spread(30, ["x", "y"]), *labelled(("lonely words here", "once"))]
    rows = [row.model_copy(update={"id": f"u{n}"}) for n, row in enumerate(rows)]
    for seed in range(6):
        sides, moved = sides_of(look(rows), SHARES, seed=seed)
        learned = {row.label for row, side in zip(rows, sides, strict=True) if side == "train"}
        assert learned == {"x", "y", "once"}
        assert moved <= 1
        assert set(sides) == set(SHARES)


def test_near_duplicates_stand_on_one_side_and_no_text_leaks():
    rows = spread(40, ["x", "y"])
    rows += [row.model_copy(update={"id": f"copy {row.id}", "text": row.text.upper()}) for row in rows[:20]]
    seen = look(rows)
    sides = split(seen)
    assert sides[:20] == sides[40:]
    assert leaked(seen, sides) == 0
    assert leaked(seen, ["train"] * 40 + ["test"] * 20) == 20


def test_labels_that_all_stand_once_leave_nothing_to_measure():
    rows = labelled(("one two", "a"), ("three four", "b"), ("five six", "c"), ("seven eight", "d"))
    with pytest.raises(DataError, match=r"no row is left for the dev side: 4 groups of rows, and each label must be"):
        split(look(rows))
