import random

import pytest

from burnish.prepare.beir import write_beir
from burnish.prepare.coverage import coverage, gini, pair_coverage, question_coverage, training_coverage
from burnish.prepare.judged import training_pairs
from burnish.records import Chunk, Pair, Question


def test_passages_without_a_question_and_groups_never_asked_are_counted():
    chunks = [Chunk(id=f"c{n}", group=f"g{n // 3}", text="x") for n in range(9)]
    questions = [
        Question(id="1", question="?", gold=("c0", "c1")),
        Question(id="2", question="?", gold=("c0",)),
        Question(id="3", question="?", gold=("c8",)),
    ]
    found = question_coverage(questions, chunks)
    assert (found.passages, found.asked, found.share) == (9, 3, pytest.approx(1 / 3))
    assert found.questions == {"half": 0, "p90": 2, "p99": 2, "most": 2}
    assert (found.groups, found.unasked) == (3, ("g1",))
    assert found.lines() == [
        "coverage: 3 of 9 passages (33%) have a training question; questions a passage: half 0, p90 2, p99 2, most 2; "
        "Gini 0.72",
        "groups without a training question: 1 of 3: g1",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_half_the_mean_difference_by_the_mean(seed: int):
    draw = random.Random(seed)
    numbers = [*sorted(draw.choice([0, 0, 1, 2, 9]) for _ in range(draw.randint(2, 30))), 9]
    n = len(numbers)
    difference = sum(abs(one - other) for one in numbers for other in numbers) / n**2
    assert gini(numbers) == pytest.approx(difference / 2 / (sum(numbers) / n))


def test_gini_knows_its_ends():
    assert gini([2, 2, 2]) == 0
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)
    assert gini([0, 0]) == gini([]) == 0


def test_nothing_has_no_coverage():
    found = coverage({}, [])
    assert (found.passages, found.share, found.questions["most"]) == (0, 0.0, 0)


def test_many_groups_are_cut_short():
    found = coverage({f"c{n}": f"g{n}" for n in range(9)}, ["c8"])
    assert found.lines()[1] == "groups without a training question: 8 of 9: g0, g1, g2, g3, g4 and 3 more"


def test_pairs_are_counted_over_the_passages_that_they_hold():
    rows = [
        Pair(id="1", query="q", positives=("a", "b"), negatives=("c",)),
        Pair(id="2", query="r", positives=("a",), negatives=("d",)),
    ]
    found = pair_coverage(rows)
    assert (found.passages, found.asked, found.questions["most"], found.unasked) == (4, 2, 2, ())


def test_rows_of_a_beir_folder_are_counted_over_its_corpus(tmp_path):
    chunks = [Chunk(id=f"c{n}", group=f"g{n}", text=f"text {n}") for n in range(4)]
    write_beir(tmp_path / "set", chunks, {"train": [Question(id="1", question="?", gold=("c1",))]})
    place = str(tmp_path / "set")
    assert training_coverage(place, training_pairs(place)).unasked == ("g0", "g2", "g3")
    assert training_coverage("elsewhere.jsonl", training_pairs(place)).passages == 1
