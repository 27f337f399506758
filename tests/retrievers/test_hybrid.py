from collections.abc import Sequence
from math import log2
from pathlib import Path
from statistics import mean, pstdev
from typing import ClassVar

import pytest
from pydantic import ValidationError

from burnish.errors import DataError
from burnish.records import Chunk, Question
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.retrievers.hybrid import Hybrid, tune_weights


class Fixed(Retriever):
    """Returns the same ids for every question, cut at what is asked for."""

    ids: tuple[str, ...]

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        cache.mkdir(exist_ok=True)
        (cache / "-".join(self.ids)).touch()
        return _FixedSearcher(self.ids)


class Scored(Retriever):
    """Returns the same hits for every question, by score."""

    scores: dict[str, float]

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        return _ScoredSearcher(self.scores)


class _ScoredSearcher:
    notes: ClassVar[dict[str, int]] = {}

    def __init__(self, scores: dict[str, float]) -> None:
        self._hits = sorted((Hit(key, score) for key, score in scores.items()), key=lambda hit: -hit.score)

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [self._hits[:k] for _ in questions]


class ByQuestion:
    """A searcher whose hits stand in the question: `a b c` finds a, b and c."""

    notes: ClassVar[dict[str, int]] = {}

    def __init__(self, part: int) -> None:
        self._part = part

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        found = [question.split("|")[self._part].split() for question in questions]
        return [[Hit(key, -float(rank)) for rank, key in enumerate(row[:k])] for row in found]


class _FixedSearcher:
    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    notes: ClassVar[dict[str, int]] = {}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [[Hit(key, -float(rank)) for rank, key in enumerate(self._ids[:k])] for _ in questions]


def ranked(hybrid: Hybrid, folder: Path, k: int) -> list[tuple[str, float]]:
    found = hybrid.build([], cache=folder, progress=lambda *_: None).search(["one", "two"], k)
    assert found[0] == found[1]
    return [(hit.id, hit.score) for hit in found[0]]


def test_ranks_are_fused_by_their_reciprocals(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "d"))))
    expected = [("a", 1 / 61 + 1 / 62), ("c", 1 / 63 + 1 / 61), ("b", 1 / 62), ("d", 1 / 63)]
    assert ranked(hybrid, tmp_path, 10) == [(key, pytest.approx(score)) for key, score in expected]
    assert [key for key, _ in ranked(hybrid, tmp_path, 2)] == ["a", "c"]


def test_the_constant_weighs_the_first_ranks(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c", "d", "e")), Fixed(ids=("x", "y", "e")))
    assert ranked(Hybrid(of=both, k=60), tmp_path, 1)[0][0] == "e"
    assert ranked(Hybrid(of=both, k=1), tmp_path, 1)[0][0] == "x"


def test_equal_scores_are_in_descending_order_of_id(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b")), Fixed(ids=("b", "a"))))
    assert [key for key, _ in ranked(hybrid, tmp_path, 2)] == ["b", "a"]


def test_ranks_beyond_the_depth_do_not_count(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "b")))
    assert [key for key, _ in ranked(Hybrid(of=both, depth=1), tmp_path, 1)] == ["c"]
    assert {key for key, _ in ranked(Hybrid(of=both, depth=1), tmp_path, 10)} == {"a", "c"}


def test_what_is_asked_for_does_not_change_the_order(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c", "d")), Fixed(ids=("d", "c", "x", "y")))
    hybrid = Hybrid(of=both, depth=2)
    assert ranked(hybrid, tmp_path, 2) == ranked(hybrid, tmp_path, 3)[:2] == ranked(hybrid, tmp_path, 9)[:2]


def test_every_member_is_built_with_the_same_cache(tmp_path: Path) -> None:
    ranked(Hybrid(of=(Fixed(ids=("a", "b")), Fixed(ids=("c",)))), tmp_path / "cache", 1)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"a-b", "c"}


def test_members_are_read_by_name_and_two_are_needed() -> None:
    hybrid = Retriever.read({"kind": "hybrid", "of": ["bm25", {"kind": "bm25", "k1": 2}]})
    assert [member.kind for member in hybrid.of] == ["bm25", "bm25"]
    with pytest.raises(ValidationError, match="at least 2"):
        Retriever.read({"kind": "hybrid", "of": ["bm25"]})


def test_ranks_are_weighed(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "d"))), weights=(2, 0.5))
    expected = [("a", 2 / 61 + 0.5 / 62), ("c", 2 / 63 + 0.5 / 61), ("b", 2 / 62), ("d", 0.5 / 63)]
    assert ranked(hybrid, tmp_path, 10) == [(key, pytest.approx(score)) for key, score in expected]


def test_equal_weights_are_what_none_are(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "d")))
    assert ranked(Hybrid(of=both, weights=(1, 1)), tmp_path, 9) == ranked(Hybrid(of=both), tmp_path, 9)


def test_what_a_retriever_of_no_weight_finds_is_not_returned(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b")), Fixed(ids=("x", "b"))), weights=(1, 0))
    assert [key for key, _ in ranked(hybrid, tmp_path, 9)] == ["a", "b"]


FIRST, SECOND = {"a": 30.0, "b": 20.0, "c": 10.0}, {"d": 0.9, "c": 0.8, "a": 0.5}


def test_scores_are_fused_between_their_least_and_their_best(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Scored(scores=FIRST), Scored(scores=SECOND)), fuse="minmax", weights=(0.4, 0.6))
    expected = [("d", 0.6), ("c", 0.6 * 0.75), ("a", 0.4), ("b", 0.4 * 0.5)]
    assert ranked(hybrid, tmp_path, 10) == [(key, pytest.approx(score)) for key, score in expected]


def test_scores_are_fused_in_standard_deviations(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Scored(scores=FIRST), Scored(scores=SECOND)), fuse="z", weights=(0.4, 0.6))
    z = [
        {key: (score - mean(found.values())) / pstdev(found.values()) for key, score in found.items()}
        for found in (FIRST, SECOND)
    ]
    totals = {
        key: sum(
            weight * (given.get(key, min(given.values())) - min(given.values()))
            for weight, given in zip((0.4, 0.6), z, strict=True)
        )
        for key in "abcd"
    }
    assert dict(ranked(hybrid, tmp_path, 10)) == pytest.approx(totals)


def test_hits_that_all_score_the_same_are_all_the_best(tmp_path: Path) -> None:
    alike = Scored(scores={"a": 0.1, "b": 0.1})
    for fuse in ("minmax", "z"):
        hybrid = Hybrid.model_validate({"of": (alike, Scored(scores={})), "fuse": fuse})
        assert ranked(hybrid, tmp_path, 10) == [("b", 1.0), ("a", 1.0)]


def test_each_retriever_needs_a_weight_and_one_more_than_none() -> None:
    both = ["bm25", "bm25"]
    with pytest.raises(ValidationError, match="there are 3 weights for 2 retrievers"):
        Retriever.read({"kind": "hybrid", "of": both, "weights": [1, 2, 3]})
    with pytest.raises(ValidationError, match="every weight is 0"):
        Retriever.read({"kind": "hybrid", "of": both, "weights": [0, 0]})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Retriever.read({"kind": "hybrid", "of": both, "weights": [1, -1]})


def asked(*questions: str, gold: str = "g") -> list[Question]:
    return [Question(id=str(place), question=text, gold=(gold,)) for place, text in enumerate(questions)]


def test_weights_are_those_of_the_best_ndcg_on_the_dev_questions() -> None:
    hybrid = Hybrid(of=(Fixed(ids=()), Fixed(ids=())))
    members = [ByQuestion(0), ByQuestion(1)]
    questions = [*asked("a b c g|g a b c", "a b g|g x y"), Question(id="none", question="a|b")]
    tuned = tune_weights(hybrid, members, questions)
    assert (tuned.questions, tuned.tried) == (2, 11)

    def ndcg(weights: Sequence[float]) -> float:
        ranks = []
        for question in questions[:2]:
            scores: dict[str, float] = {}
            for part, weight in zip(question.question.split("|"), weights, strict=True):
                for rank, key in enumerate(part.split(), start=1):
                    scores[key] = scores.get(key, 0) + weight / (60 + rank)
            order = sorted(scores, key=lambda key: (scores[key], key), reverse=True)
            ranks.append(order.index("g") + 1)
        return mean(1 / log2(rank + 1) for rank in ranks)

    assert tuned.before == pytest.approx(ndcg((1, 1)))
    assert tuned.ndcg == pytest.approx(max(ndcg((tenth / 10, 1 - tenth / 10)) for tenth in range(11)))
    assert tuned.ndcg == pytest.approx(ndcg(tuned.weights))
    assert sum(tuned.weights) == pytest.approx(1)
    assert tuned.weights[1] > tuned.weights[0]


def test_where_weights_make_no_difference_they_stay_even() -> None:
    hybrid = Hybrid(of=(Fixed(ids=()), Fixed(ids=()), Fixed(ids=())))
    tuned = tune_weights(hybrid, [ByQuestion(0)] * 3, asked("g a", "a g"))
    assert tuned.tried == 66
    assert sorted(tuned.weights) == [0.3, 0.3, 0.4]
    assert tuned.ndcg == tuned.before
    assert hybrid.model_copy(update={"weights": tuned.weights}).weights == tuned.weights


def test_weights_are_tuned_on_questions_that_have_a_right_passage() -> None:
    hybrid = Hybrid(of=(Fixed(ids=()), Fixed(ids=())))
    with pytest.raises(DataError, match="none of these has any"):
        tune_weights(hybrid, [ByQuestion(0)] * 2, [Question(id="1", question="a|b")])
