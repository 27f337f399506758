from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from burnish import sequences
from burnish.errors import DataError
from burnish.sequences import Joined, Ragged, first_equal
from burnish.text import text_key

ROWS = [[1, 2, 3], [], [4], [5, 6], [], [7] * 9, [8, 9]]


def ragged(rows: list[list[int]], kind: Literal["B", "i", "q", "d"] = "i") -> Ragged:
    found = Ragged(kind)
    for row in rows:
        found.append(row)
    return found


@pytest.fixture(params=[0, 12, 1 << 20])
def in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """Let so many bytes stay in memory."""
    monkeypatch.setattr(sequences, "IN_MEMORY", request.param)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return int(request.param)


@pytest.mark.parametrize("kind", ["B", "i", "q", "d"])
def test_rows_come_back_from_wherever_they_are(in_memory: int, kind: Literal["B", "i", "q", "d"]) -> None:
    rows = ragged(ROWS, kind)
    assert [row.tolist() for row in rows] == ROWS
    assert [rows.length(place) for place in range(len(rows))] == [len(row) for row in ROWS]
    assert rows[-1].tolist() == ROWS[-1]
    rows.append([10])
    assert rows[len(ROWS)].tolist() == [10]
    with pytest.raises(IndexError):
        rows[len(ROWS) + 1]


def test_what_is_too_large_for_memory_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sequences, "IN_MEMORY", 12)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    rows = ragged(ROWS)
    assert [*(tmp_path / "cache").iterdir()] == []
    assert rows[5].tolist() == ROWS[5]


def test_a_cache_folder_that_is_a_file_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(sequences, "IN_MEMORY", 0)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"cannot be kept here: .*; set BURNISH_CACHE to a folder that can be written"):
        ragged(ROWS)


def test_slices_are_views_and_views_have_slices() -> None:
    rows = Joined([[0, 1, 2], [], [3, 4], [5, 6, 7, 8]])
    for places in (slice(2, 7), slice(None, None, 3), slice(-3, None), slice(7, 2, -2), slice(4, 4)):
        assert [*rows[places]] == [*range(9)][places]
        assert [*rows[places][1:3]] == [*range(9)][places][1:3]
    assert rows[1:4][-1] == 3


def test_joined_parts_are_one_sequence_and_stay_flat() -> None:
    rows = Joined([Joined([["a"], ["b", "c"]]), (), ["d"]])
    assert [*rows] == ["a", "b", "c", "d"]
    assert (len(rows), len(rows.parts), rows[-1]) == (4, 4, "d")
    assert [*Joined[str]([])] == []
    with pytest.raises(IndexError):
        rows[4]


def test_the_first_of_equal_values_is_found() -> None:
    draw = np.random.default_rng(0).integers(0, 40, 200).tolist()
    digests = b"".join(text_key(str(number)) for number in draw)
    assert first_equal(digests).tolist() == [draw.index(number) for number in draw]
    assert first_equal(b"").tolist() == []
