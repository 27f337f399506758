"""Answers that a generator which stands still is asked for once."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from burnish.errors import RunError
from burnish.models.answers_apart import Row, logps_in_passes
from burnish.models.kept_logps import KeptLogps, answers_file
from burnish.models.load import load_writer

ROWS: list[Row] = [([5, 6, 7], [8, 9]), ([5, 6], [7, 8, 9]), ([9, 8, 7, 6], [5])]


def test_what_is_kept_is_what_was_read_bit_for_bit_and_is_read_once(tmp_path: Path) -> None:
    network, _ = load_writer(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    asked: list[Row] = []

    def told(file: str, rows: list[Row]) -> list[Tensor]:
        def read(places: Sequence[int]) -> list[Tensor]:
            new = [rows[place] for place in places]
            asked.extend(new)
            with torch.no_grad():
                return logps_in_passes(network, new, pass_tokens=1, apart=False)

        return KeptLogps(tmp_path / file).of(rows, read)

    first = told("kept.sqlite", [ROWS[0], ROWS[1], ROWS[0]])
    assert asked == ROWS[:2]
    again = told("kept.sqlite", [ROWS[2], ROWS[1], ROWS[0]])
    assert asked == ROWS
    whole = told("other.sqlite", ROWS)
    for ours, theirs in ((first[0], whole[0]), (first[2], whole[0]), (again[1], first[1]), (again[0], whole[2])):
        assert torch.equal(ours, theirs)


def test_what_was_not_read_to_the_end_is_not_kept(tmp_path: Path) -> None:
    kept = KeptLogps(tmp_path / "kept.sqlite")

    def fails(_: Sequence[int]) -> list[Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.of(ROWS, fails)
    seen: list[int] = []

    def read(places: Sequence[int]) -> list[Tensor]:
        seen.extend(places)
        return [torch.zeros(len(ROWS[place][1])) for place in places]

    KeptLogps(tmp_path / "kept.sqlite").of(ROWS, read)
    assert seen == [0, 1, 2]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "kept.sqlite").write_text("something else entirely, which is no such file " * 20)
    with pytest.raises(RunError, match=r"kept\.sqlite: what the generator says of answers cannot be kept there"):
        KeptLogps(tmp_path / "kept.sqlite")


def test_a_file_is_named_by_weights_and_by_the_numbers_they_are_in(tmp_path: Path) -> None:
    network, _ = load_writer(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    name = answers_file(network)
    assert answers_file(network) == name
    with torch.no_grad():
        next(network.parameters())[0, 0] += 1
    other = answers_file(network)
    assert len({name, other, answers_file(network.bfloat16())}) == 3
