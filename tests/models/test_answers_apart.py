"""Answers to many prompts, in passes: the numbers and the gradient of each prompt read alone."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import tiny
from burnish.models.answers_apart import Row, logps_in_passes, shared_beginning
from burnish.models.layout import Segments
from burnish.models.load import load_writer
from burnish.models.segments import is_packed, states_at

QUESTION = [5, 6, 7, 8]
ROWS: list[Row] = [
    ([*QUESTION, 9, 10], [11, 12]),
    ([*QUESTION, 9, 11, 12], [13]),
    ([*QUESTION], [6, 5, 9]),  # nothing but what is shared
    ([13, 5], [6]),  # of another question, alone
    ([*QUESTION, 10], [9, 11]),
    ([7, 5, 9], [6, 8]),
    ([8, 5, 9], [6, 8]),  # of a question whose prompts share nothing
    ([5, 7, 8, 10], [12, 6]),  # of a question whose prompts each leave something out: the last shares most
    ([5, 6, 8, 10], [12, 6]),
    ([5, 6, 7, 10], [12, 6]),
    ([5, 6, 7, 8], [12, 6]),
]
FAMILIES = [0, 0, 0, 1, 0, 2, 2, 3, 3, 3, 3]
CHAIN = [5, *(5, 6), *(5, 6, 7)]  # what the others find in the last one


def by_hand(network: Any) -> list[Tensor]:
    found = []
    for prompt, answer in ROWS:
        logits = network(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        found.append(-functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    return found


@pytest.mark.parametrize("pass_tokens", [1, 9, 13, 1000])
def test_what_prompts_share_is_read_once_and_nothing_else_changes(
    tmp_path: Path, pass_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = load_writer(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    assert is_packed(network)
    weights = torch.randn(sum(len(answer) for _, answer in ROWS), generator=torch.Generator().manual_seed(0))
    (torch.cat(by_hand(network)) * weights).sum().backward()
    expected = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    read: list[int] = []

    def noted(model: Any, segments: Segments, places: Tensor) -> Tensor:
        read.append(len(segments.ids))
        return states_at(model, segments, places)

    monkeypatch.setattr("burnish.models.completions.states_at", noted)
    found = logps_in_passes(network, ROWS, pass_tokens=pass_tokens, apart=False, families=FAMILIES)
    for ours, theirs in zip(found, by_hand(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    alone = sum(len(prompt) + len(answer) - 1 for prompt, answer in ROWS)
    if pass_tokens == 1000:
        assert read == [alone - (len(QUESTION) + 1) - 2 * len(QUESTION) - len(CHAIN)]
    assert pass_tokens >= 1000 or max(read) <= max(pass_tokens, 8)
    (torch.cat(found) * weights).sum().backward()
    size = max(gradient.abs().max().item() for gradient in expected.values())
    for name, weight in network.named_parameters():
        assert (weight.grad - expected[name]).abs().max().item() <= 1e-6 * size, name


def test_an_encoder_decoder_reads_each_prompt(tmp_path: Path) -> None:
    network, _ = load_writer(str(tiny.tiny_t5(tmp_path / "t5")), dtype=torch.float32)
    ours = logps_in_passes(network, ROWS, pass_tokens=9, apart=True, families=FAMILIES)
    theirs = [logps_in_passes(network, [row], pass_tokens=1, apart=True)[0] for row in ROWS]
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_prompts_are_compared_to_their_first_difference() -> None:
    draw = random.Random(0)
    for _ in range(300):
        prompts = [[draw.randrange(2) for _ in range(draw.randint(0, 9))] for _ in range(draw.randint(1, 4))]
        alike = list(zip(*prompts, strict=False))
        expected = next((place for place, tokens in enumerate(alike) if len({*tokens}) > 1), len(alike))
        assert shared_beginning([tuple(prompts[0]), *prompts[1:]]) == expected
