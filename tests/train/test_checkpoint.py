import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from burnish.errors import RunError
from burnish.train.checkpoint import KEPT, Checkpoints, State


def stepped(steps: int) -> tuple[list[nn.Parameter], torch.optim.AdamW]:
    """Return weights and their optimizer after some steps."""
    weights = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
    return weights, optimizer


def saved(folder: Path, said: list[str], *, upto: int = 4) -> Checkpoints:
    """Save a checkpoint after each step."""
    checkpoints = Checkpoints(folder / "checkpoints", said.append)
    for step in range(1, upto + 1):
        checkpoints.save(State(step=step, data="x"), *stepped(step))
    return checkpoints


def loaded(checkpoints: Checkpoints) -> tuple[int, list[Tensor], torch.optim.AdamW]:
    weights, optimizer = stepped(0)
    found = checkpoints.load(weights, optimizer, data="x")
    assert found is not None
    return found[0].step, found[1], optimizer


def moments(optimizer: torch.optim.AdamW) -> dict[int, dict[str, object]]:
    state = optimizer.state_dict()["state"]
    return {place: {name: value.tolist() for name, value in values.items()} for place, values in state.items()}


def assert_is_step(step: int, checkpoints: Checkpoints) -> None:
    found, values, optimizer = loaded(checkpoints)
    weights, expected = stepped(step)
    assert found == step
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(values, weights, strict=True))
    assert moments(optimizer) == moments(expected)


def test_the_newest_checkpoint_is_read_and_the_oldest_are_removed(tmp_path: Path):
    said: list[str] = []
    assert_is_step(4, saved(tmp_path, said))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000003", "000004"]
    assert KEPT == 2
    assert said == []


def test_steps_beyond_six_digits_are_still_newer(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    for step in (999_999, 1_000_000):
        checkpoints.save(State(step=step, data="x"), *stepped(1))
    assert loaded(checkpoints)[0] == 1_000_000


def test_no_pickle_is_written(tmp_path: Path):
    saved(tmp_path, [])
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x80
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["bit", "half", "empty", "gone"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path: Path, file: str, damage: str):
    said: list[str] = []
    checkpoints = saved(tmp_path, said)
    path = tmp_path / "checkpoints" / "000004" / file
    if damage == "bit":
        flip(path, path.stat().st_size // 2)
    elif damage == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if damage == "half" else 0)
    assert_is_step(3, checkpoints)
    [message] = said
    assert f"000004/{file}" in message
    assert message.endswith("falling back to the checkpoint before it")


@pytest.mark.parametrize("place", range(0, 250, 7))
def test_no_flipped_bit_of_a_manifest_is_an_error_of_ours(tmp_path: Path, place: int):
    checkpoints = saved(tmp_path, [])
    path = tmp_path / "checkpoints" / "000004" / "manifest.json"
    flip(path, place % path.stat().st_size)
    assert loaded(checkpoints)[0] in (3, 4)


def test_nothing_that_can_be_read_is_an_error_and_not_a_new_start(tmp_path: Path):
    said: list[str] = []
    checkpoints = saved(tmp_path, said)
    for path in (tmp_path / "checkpoints").glob("*/state.json"):
        path.unlink()
    weights, optimizer = stepped(0)
    with pytest.raises(RunError, match="none of the checkpoints 000003, 000004 can be read; start anew"):
        checkpoints.load(weights, optimizer, data="x")
    assert len(said) == 2


def test_no_checkpoint_is_no_error(tmp_path: Path):
    assert Checkpoints(tmp_path / "none", pytest.fail).load(*stepped(0), data="x") is None


def test_a_checkpoint_of_another_run_is_refused_before_its_weights_are_read(tmp_path: Path):
    checkpoints = saved(tmp_path, [])
    with pytest.raises(RunError, match="made from other rows or settings"):
        checkpoints.load([nn.Parameter(torch.ones(1))] * 7, stepped(0)[1], data="y")


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path: Path):
    checkpoints = saved(tmp_path, [])
    beside = tmp_path / "checkpoints" / ".000005.1234abcd"
    beside.mkdir()
    (beside / "weights.safetensors").write_bytes(b"half")
    assert_is_step(4, checkpoints)


def test_the_best_weights_are_kept_beside_the_checkpoints(tmp_path: Path):
    checkpoints = saved(tmp_path, [])
    for step in (1, 2):
        checkpoints.save_best(step, stepped(step)[0])
    values = checkpoints.load_best(2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(values, stepped(2)[0], strict=True))
    assert_is_step(4, checkpoints)
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()
