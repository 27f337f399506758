from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from burnish.errors import DataError, ModelError
from burnish.prepare import mining
from burnish.prepare.mining import Judge, Rules
from burnish.prepare.negatives import Mined, choose, mine
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


def found(*searchers: Fixed, question: Question = QUESTION, chunks: Sequence[Chunk] = CHUNKS, **rules: Any) -> Mined:
    """Mine for one question."""
    rules = {"per_question": 9, "depth": 6, **rules}
    return mine([question], chunks, searchers, Rules(**rules))


def test_a_negative_scores_clearly_below_the_right_passage():
    mined = found(Fixed(a=1.2, b=1.0, d=0.96, e=0.9, f=0.5), per_question=2, depth=5)
    assert mined.negatives == {"q": ("e", "f")}
    assert mined.dropped[mining.SCORE] == 2
    assert mined.dropped[mining.RIGHT] == 1
    assert (mined.short, mined.unfound) == (0, 0)


def test_below_zero_the_ceiling_does_not_loosen():
    mined = found(Fixed(b=-1.0, d=-1.01, e=-1.06), per_question=2, depth=5)
    assert mined.negatives == {"q": ("e",)}
    assert mined.short == 1


def test_the_lowest_of_several_right_passages_sets_the_ceiling():
    question = Question(id="q", question="?", gold=("a", "b"))
    assert found(Fixed(a=2.0, d=1.5, b=1.0, e=0.9), question=question).negatives == {"q": ("e",)}


def test_a_passage_titled_like_the_answer_is_no_negative():
    mined = found(Fixed(b=1.0, c=0.5, d=0.4), per_question=1, depth=5)
    assert mined.negatives == {"q": ("d",)}
    assert mined.dropped[mining.ANSWER] == 1


def test_a_copy_of_the_right_passage_is_no_negative():
    chunks = [
        Chunk(id="right", text=LONG),
        Chunk(id="longer", text="zero and " + LONG + " and some more words that follow"),
        Chunk(id="other", text="ten nine eight seven six five four three two one"),
    ]
    question = Question(id="q", question="?", gold=("right",))
    searcher = Fixed(right=1.0, longer=0.9, other=0.8)
    mined = found(searcher, question=question, chunks=chunks, per_question=1, depth=3)
    assert mined.negatives == {"q": ("other",)}
    assert mined.dropped[mining.COPY] == 1
    assert found(searcher, question=question, chunks=chunks, copies=None).negatives == {"q": ("longer", "other")}


def test_without_the_right_passage_among_the_hits_the_lower_half_is_taken():
    mined = found(Fixed(a=4, d=3, e=2, f=1), per_question=3, depth=4)
    assert mined.negatives == {"q": ("e", "f")}
    assert (mined.unfound, mined.dropped[mining.UNRANKED]) == (1, 2)


def test_without_a_rule_on_scores_ranks_are_not_asked_either():
    mined = found(Fixed(a=4, d=3, e=2, f=1), ceiling=None, depth=4)
    assert mined.negatives == {"q": ("a", "d", "e", "f")}


def test_every_hit_is_kept_or_counted():
    mined = found(Fixed(a=1.2, b=1.0, c=0.9, d=0.96, e=0.9, f=0.5))
    assert sum(mined.dropped.values()) + len(mined.negatives["q"]) == 6


def test_margins_are_absolute_or_relative_and_counted_apart():
    searcher = Fixed(b=2.0, a=1.95, d=1.85, e=1.7, f=1.2)
    mined = found(searcher, ceiling=None, absolute_margin=0.1)
    assert mined.negatives == {"q": ("d", "e", "f")}
    assert mined.dropped[mining.ABSOLUTE] == 1
    mined = found(searcher, ceiling=None, relative_margin=0.1)
    assert mined.negatives == {"q": ("e", "f")}
    assert mined.dropped[mining.RELATIVE] == 2
    mined = found(searcher, ceiling=0.95, absolute_margin=0.5, relative_margin=0.1)  # the strictest holds
    assert mined.negatives == {"q": ("f",)}
    assert [mined.dropped[reason] for reason in (mining.SCORE, mining.ABSOLUTE, mining.RELATIVE)] == [1, 2, 0]


def test_the_first_ranks_are_skipped_and_right_passages_take_none_of_them():
    mined = found(Fixed(a=5, b=4, c=3, d=2, e=1), ceiling=None, skip=2, contains_answer=False)
    assert mined.negatives == {"q": ("d", "e")}
    assert mined.dropped[mining.SKIPPED] == 2


def test_a_passage_that_holds_an_answer_as_words_is_no_negative():
    chunks = [
        Chunk(id="b", text="the right one"),
        Chunk(id="a", text="it was built in New-York City, they say"),
        Chunk(id="c", text="in newyork nothing was built"),
        Chunk(id="d", title="New York", text="a title counts"),
    ]
    question = Question(id="q", question="?", answers=("new york",), gold=("b",))
    searcher = Fixed(b=9, a=3, c=2, d=1)
    mined = found(searcher, question=question, chunks=chunks)
    assert mined.negatives == {"q": ("c",)}
    assert (mined.dropped[mining.CONTAINS], mined.dropped[mining.ANSWER]) == (1, 1)
    mined = found(searcher, question=question, chunks=chunks, contains_answer=False)
    assert mined.negatives == {"q": ("a", "c")}


@pytest.mark.parametrize("answer", ["yes", "No.", "7", "false", "Unanswerable", "—", "the"])
def test_an_answer_that_stands_anywhere_tells_nothing(answer: str):
    chunks = [Chunk(id="b", text="right"), Chunk(id="a", text=f"yes no 7 false unanswerable the — {answer} word")]
    question = Question(id="q", question="?", answers=(answer,), gold=("b",))
    assert found(Fixed(b=9, a=1), question=question, chunks=chunks).negatives == {"q": ("a",)}


def test_a_negative_is_not_chosen_twice_under_two_ids():
    chunks = [*CHUNKS, CHUNKS[3].model_copy(update={"id": "d2"})]
    mined = found(Fixed(b=9, d=2, d2=1, e=0.5), chunks=chunks)
    assert mined.negatives == {"q": ("d", "e")}
    assert mined.dropped[mining.TWIN] == 1


def test_candidates_of_several_retrievers_are_one_list_with_the_ranks_and_scores_of_each():
    mined = found(Fixed(b=30, d=20, a=10), Fixed(e=0.5, b=0.9, d=0.4), depth=6)
    assert mined.negatives == {"q": ("e", "d", "a")}
    found_by = {candidate.id: (candidate.ranks, candidate.scores) for candidate in mined.chosen["q"]}
    assert found_by == {
        "e": ((None, 1), (None, 0.5)),
        "d": ((2, 3), (20, 0.4)),
        "a": ((3, None), (10, None)),
    }


def test_a_candidate_must_pass_in_every_list_that_holds_it_and_a_right_passage():
    mined = found(Fixed(b=30, d=20, e=10), Fixed(b=0.9, d=0.89, e=0.5))
    assert mined.negatives == {"q": ("e",)}
    assert mined.dropped[mining.SCORE] == 1
    mined = found(Fixed(b=30, d=20, e=10), Fixed(d=0.89, f=0.8, a=0.2), depth=5)  # the second found nothing right
    assert mined.negatives == {"q": ("d", "e", "a")}
    assert mined.dropped[mining.UNRANKED] == 1
    mined = found(Fixed(b=30, d=20, e=10), Fixed(f=0.8, d=0.7), skip=1)  # first of what is not right, in either list
    assert mined.negatives == {"q": ("e",)}


def test_right_passages_of_other_judgements_are_right_too():
    judge = Judge(Rules(per_question=9, ceiling=None), {chunk.id: chunk for chunk in CHUNKS})
    hits = [[[Hit(name, score) for name, score in {"a": 3.0, "b": 2.0, "d": 1.0}.items()]]]
    assert choose([QUESTION], hits, judge).negatives == {"q": ("a", "d")}
    assert choose([QUESTION], hits, judge, right={"q": {"a"}}).negatives == {"q": ("d",)}


def test_a_random_choice_depends_on_seed_and_question_alone():
    chunks = [Chunk(id=f"c{n}", text=f"passage number {n} of many") for n in range(40)]
    searcher = Fixed(**{f"c{n}": 100.0 - n for n in range(40)})
    rules = Rules(per_question=5, ceiling=None, sampling="random")
    asked = [Question(id=name, question="?", gold=("c0",)) for name in ("one", "two", "three")]
    first = mine(asked, chunks, [searcher], rules, seed=1).negatives
    assert mine(asked[::-1], chunks, [searcher], rules, seed=1).negatives == first
    assert first != mine(asked, chunks, [searcher], rules, seed=2).negatives
    assert first["one"] != first["two"]
    assert all(list(kept) == sorted(kept, key=lambda key: int(key[1:])) for kept in first.values())  # hardest first
    assert len({key for kept in first.values() for key in kept}) > 8


class Crossing:
    """A cross-encoder that knows the score of each passage by its last word but one."""

    def __init__(self, **scores: float) -> None:
        self.scores, self.asked = scores, []

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        self.asked += [passage.split()[-2] for _, passage in pairs]
        return [self.scores[passage.split()[-2]] for _, passage in pairs]


def test_a_veto_drops_what_is_nearly_as_right_and_scores_no_more_than_is_needed():
    veto = Crossing(b=4.0, a=3.9, d=3.7, e=1.0, f=0.0)
    searcher = Fixed(b=9, a=5, d=4, e=3, f=2)
    mined = mine([QUESTION], CHUNKS, [searcher], Rules(per_question=2, veto="x"), veto=veto)
    assert mined.negatives == {"q": ("d", "e")}
    assert mined.dropped[mining.VETO] == 1
    assert veto.asked == ["b", "a", "d", "e"]
    mined = mine([QUESTION], CHUNKS, [searcher], Rules(per_question=4, veto="x", veto_share=0.5), veto=veto)
    assert (mined.negatives["q"], mined.short) == (("e", "f"), 1)


def test_the_lowest_right_passage_is_what_a_veto_compares_with_also_below_zero():
    question = Question(id="q", question="?", gold=("a", "b"))
    veto = Crossing(a=2.0, b=-1.0, d=-1.04, e=-1.06)
    searcher = Fixed(a=9, b=8, d=4, e=3)
    mined = mine([question], CHUNKS, [searcher], Rules(per_question=2, veto="x"), veto=veto)
    assert mined.negatives == {"q": ("e",)}


@pytest.mark.parametrize("answer", [[], [1.0, float("nan")]])
def test_a_veto_without_a_number_for_each_pair_is_an_error(answer: list[float]):
    class Broken:
        def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
            return answer[: len(pairs)] if len(pairs) == 1 and answer else answer

    with pytest.raises(ModelError, match="scores for"):
        mine([QUESTION], CHUNKS, [Fixed(b=9, d=4, e=3)], Rules(per_question=2, veto="x"), veto=Broken())


def test_a_question_about_another_corpus_is_an_error():
    with pytest.raises(DataError, match="its gold passage 'b' is not in the corpus"):
        mine([QUESTION], CHUNKS[:1], [Fixed(a=1)], Rules())
