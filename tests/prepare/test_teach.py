from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import tiny
from burnish.models.encode import Encoder
from burnish.prepare import scores
from burnish.prepare.teach import BiEncoderScorer, teacher_scores
from burnish.records import Pair


class Counting:
    """A teacher that gives the lengths of the texts, and remembers how many pairs it was asked for."""

    def __init__(self, *, breaks_after: int = 1000) -> None:
        self.asked = 0
        self._left = breaks_after

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        self.asked += len(pairs)
        return [len(query) + len(passage) / 3 for query, passage in pairs]


ROWS = [
    Pair(id="a", query="red", positives=("one two", "three"), negatives=("four",)),
    Pair(id="b", query="red", positives=("one two",), negatives=("five", "four")),
]


def test_scores_stand_in_the_order_of_positives_then_negatives(tmp_path: Path) -> None:
    first, second = teacher_scores(ROWS, Counting(), cache=tmp_path)
    assert first.scores == (3 + 7 / 3, 3 + 5 / 3, 3 + 4 / 3)
    assert second.scores == (3 + 7 / 3, 3 + 4 / 3, 3 + 4 / 3)
    assert first.model_copy(update={"scores": ()}) == ROWS[0]


def test_a_pair_is_scored_once_whatever_rows_it_stands_in(tmp_path: Path) -> None:
    teacher = Counting()
    found = teacher_scores(ROWS, teacher, cache=tmp_path)
    assert teacher.asked == 4
    again = Counting()
    assert teacher_scores(ROWS, again, cache=tmp_path) == found
    assert again.asked == 0
    more = ROWS[0].model_copy(update={"negatives": ("four", "six"), "scores": ()})
    assert len(teacher_scores([more], again, cache=tmp_path)[0].scores) == 4
    assert again.asked == 1


def test_after_a_crash_only_what_is_missing_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        teacher_scores(ROWS, Counting(breaks_after=2), cache=tmp_path)
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('["0123", 4')  # half a line
    rest = Counting()
    found = teacher_scores(ROWS, rest, cache=tmp_path)
    assert rest.asked == 2
    assert found == teacher_scores(ROWS, Counting(breaks_after=0), cache=tmp_path)


def test_a_bi_encoder_teaches_its_cosines(tmp_path: Path) -> None:
    encoder = Encoder.load(str(tiny.tiny_bert(tmp_path / "bert")), dtype=torch.float32)
    encoder.format = encoder.format.model_copy(update={"query_prefix": "question ", "passage_prefix": "passage "})
    [row] = teacher_scores(ROWS[:1], BiEncoderScorer(encoder), cache=tmp_path / encoder.fingerprint())
    query, _ = encoder.encode(["question red"], max_tokens=64)
    passages, _ = encoder.encode(["passage one two", "passage three", "passage four"], max_tokens=64)
    assert row.scores == pytest.approx((query @ passages.T)[0].tolist(), abs=1e-6)
