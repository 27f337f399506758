from collections.abc import Sequence
from typing import ClassVar

import pytest

from burnish.errors import DataError
from burnish.prepare import negatives
from burnish.prepare.negatives import mine
from burnish.records import Chunk, Question
from burnish.retrievers import Hit

LONG = "one two three four five six seven eight nine ten"


class Fixed:
    """A searcher that always finds the same."""

    def __init__(self, **scores: float) -> None:
        self.hits = [Hit(name, score) for name, score in scores.items()]

    notes: ClassVar[dict[str, int]] = {}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [self.hits[:k] for _ in questions]


CHUNKS = [Chunk(id=name, title=f"title {name}", text=f"text of {name} alone") for name in "abcdef"]
QUESTION = Question(id="q", question="?", answers=("Title c",), gold=("b",))


def test_a_negative_scores_clearly_below_the_right_passage():
    mined = mine([QUESTION], CHUNKS, Fixed(a=1.2, b=1.0, d=0.96, e=0.9, f=0.5), per_question=2, depth=5)
    assert mined.negatives == {"q": ("e", "f")}
    assert mined.dropped[negatives.SCORE] == 2
    assert mined.dropped[negatives.RIGHT] == 1
    assert (mined.short, mined.unfound) == (0, 0)


def test_below_zero_the_ceiling_does_not_loosen():
    mined = mine([QUESTION], CHUNKS, Fixed(b=-1.0, d=-1.01, e=-1.06), per_question=2, depth=5)
    assert mined.negatives == {"q": ("e",)}
    assert mined.short == 1


def test_the_lowest_of_several_right_passages_sets_the_ceiling():
    question = Question(id="q", question="?", gold=("a", "b"))
    mined = mine([question], CHUNKS, Fixed(a=2.0, d=1.5, b=1.0, e=0.9), per_question=3, depth=5)
    assert mined.negatives == {"q": ("e",)}


def test_a_passage_titled_like_the_answer_is_no_negative():
    mined = mine([QUESTION], CHUNKS, Fixed(b=1.0, c=0.5, d=0.4), per_question=1, depth=5)
    assert mined.negatives == {"q": ("d",)}
    assert mined.dropped[negatives.ANSWER] == 1


def test_a_copy_of_the_right_passage_is_no_negative():
    chunks = [
        Chunk(id="right", text=LONG),
        Chunk(id="longer", text="zero and " + LONG + " and some more words that follow"),
        Chunk(id="other", text="ten nine eight seven six five four three two one"),
    ]
    question = Question(id="q", question="?", gold=("right",))
    mined = mine([question], chunks, Fixed(right=1.0, longer=0.9, other=0.8), per_question=1, depth=3)
    assert mined.negatives == {"q": ("other",)}
    assert mined.dropped[negatives.COPY] == 1


def test_without_the_right_passage_among_the_hits_the_lower_half_is_taken():
    mined = mine([QUESTION], CHUNKS, Fixed(a=4, d=3, e=2, f=1), per_question=3, depth=4)
    assert mined.negatives == {"q": ("e", "f")}
    assert (mined.unfound, mined.dropped[negatives.UNRANKED]) == (1, 2)


def test_every_hit_is_kept_or_counted():
    searcher = Fixed(a=1.2, b=1.0, c=0.9, d=0.96, e=0.9, f=0.5)
    mined = mine([QUESTION], CHUNKS, searcher, per_question=9, depth=6)
    assert sum(mined.dropped.values()) + len(mined.negatives["q"]) == 6


def test_a_question_about_another_corpus_is_an_error():
    with pytest.raises(DataError, match="its gold passage 'b' is not in the corpus"):
        mine([QUESTION], CHUNKS[:1], Fixed(a=1), per_question=1, depth=1)
