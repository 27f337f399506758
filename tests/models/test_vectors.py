from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.errors import DataError
from burnish.models.vectors import VectorFile, write_in_blocks

MADE = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))


class KilledError(Exception):
    """Stands for a kill in the middle of writing."""


def write(path: Path, *, dtype: torch.dtype = torch.float32, killed_at: int = -1) -> tuple[int, list[int]]:
    """Write MADE in blocks of five rows; return the count, and where blocks began."""
    begun: list[int] = []

    def make(first: int, last: int) -> tuple[torch.Tensor, int]:
        begun.append(first)
        if first == killed_at:
            raise KilledError
        return MADE[first:last], 1

    return write_in_blocks(path, make, shape=(23, 6), dtype=dtype, block=5), begun


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_written_is_read_by_safetensors_and_in_pieces(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "new" / "vectors.safetensors"
    assert write(path, dtype=dtype)[0] == 5
    assert torch.equal(load_file(path)["vectors"], MADE.to(dtype))
    file = VectorFile.open(path)
    assert (file.shape, file.dtype) == ((23, 6), dtype)
    for piece in (slice(0, 4), slice(3, 23), slice(20, 99), slice(7, 7), slice(None), slice(1, 9, 3)):
        assert torch.equal(file[piece], MADE.to(dtype)[piece])
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("killed_at", [0, 5, 20])
def test_writing_that_was_killed_goes_on_and_ends_byte_for_byte_the_same(tmp_path: Path, killed_at: int) -> None:
    whole, path = tmp_path / "whole.safetensors", tmp_path / "vectors.safetensors"
    write(whole)
    with pytest.raises(KilledError):
        write(path, killed_at=killed_at)
    assert not path.exists()
    with (tmp_path / "vectors.safetensors.part").open("ab") as file:
        file.write(b"half a row")  # what was on its way when the power went
    counted, begun = write(path)
    assert (begun[0], counted) == (killed_at, 5)
    assert path.read_bytes() == whole.read_bytes()


def test_what_another_matrix_left_behind_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    with pytest.raises(KilledError):
        write(path, killed_at=10)
    assert write(path, dtype=torch.float16)[1][0] == 0


def test_a_file_of_safetensors_is_opened_as_it_is(tmp_path: Path) -> None:
    save_file({"other": MADE[:1].clone(), "vectors": MADE}, tmp_path / "two.safetensors")
    assert torch.equal(VectorFile.open(tmp_path / "two.safetensors")[4:9], MADE[4:9])


def test_what_is_no_file_of_vectors_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.safetensors: this file cannot be read: No such file"):
        VectorFile.open(tmp_path / "gone.safetensors")
    (tmp_path / "text").write_text("nothing of the kind, though long enough")
    with pytest.raises(DataError, match="not a safetensors file with a matrix 'vectors' in F32, F16, BF16"):
        VectorFile.open(tmp_path / "text")
    save_file({"vectors": MADE.double()}, tmp_path / "double")
    with pytest.raises(DataError, match="not a safetensors file with a matrix"):
        VectorFile.open(tmp_path / "double")
    write(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    with pytest.raises(DataError, match="the file is cut short"):
        VectorFile.open(tmp_path / "cut")
