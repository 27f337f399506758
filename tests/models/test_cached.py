"""Batches larger than one pass: the same gradient, and the activations of one pass."""

import copy
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.models.cached import Side, cached_vectors
from burnish.models.encode import Encoder

QUERIES = [list(range(5, 5 + length)) for length in (3, 9, 4, 7)]
PASSAGES = [[*range(7, 7 + length)] for length in (12, 5, 20, 9, 16, 3, 11, 8)]
TOKENS = sum(map(len, QUERIES)) + sum(map(len, PASSAGES))


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(str(tiny.tiny_bert(tmp_path)), dtype=torch.float32)


def gradient(encoder: Encoder, *, pass_tokens: int, at_once: int = 1000, seed: int = 0) -> tuple[float, Tensor]:
    """Return loss and gradient of all weights of a loss in which every vector meets every other."""
    encoder.zero_grad()
    torch.manual_seed(seed)

    def embed(texts: Any) -> Tensor:
        return encoder.embed(texts, tokens_per_pass=1000)

    sides = [Side(embed, QUERIES), Side(embed, PASSAGES)]
    queries, passages = cached_vectors(
        sides, pass_tokens=pass_tokens, at_once=at_once, device=next(encoder.parameters()).device
    )
    loss = ((queries @ passages.T) * 5).logsumexp(dim=1).sum()
    loss.backward()
    return loss.item(), torch.cat([w.grad.flatten() for w in encoder.parameters() if w.grad is not None])


def test_texts_keep_their_order(encoder: Encoder) -> None:
    sides = [Side(encoder.embed, QUERIES), Side(encoder.embed, PASSAGES)]
    found = cached_vectors(sides, pass_tokens=25, at_once=10, device=torch.device("cpu"))
    for vectors, texts in zip(found, (QUERIES, PASSAGES), strict=True):
        torch.testing.assert_close(vectors, encoder.embed(texts))


@pytest.mark.parametrize("pass_tokens", [1, 20, 40, 80])
def test_without_dropout_the_gradient_is_that_of_one_batch(encoder: Encoder, pass_tokens: int) -> None:
    encoder.double()
    loss, whole = gradient(encoder, pass_tokens=1000)
    found, parts = gradient(encoder, pass_tokens=pass_tokens)
    assert found == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6 * whole.abs().max().item())


def test_a_decoder_is_computed_again_alike(tmp_path: Path) -> None:
    decoder = Encoder.load(str(tiny.tiny_llama(tmp_path)), dtype=torch.float64)
    loss, whole = gradient(decoder, pass_tokens=1000)
    found, parts = gradient(decoder, pass_tokens=20)
    assert found == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6 * whole.abs().max().item())


@pytest.mark.parametrize("kept", [20, 21, 45, TOKENS])
def test_with_dropout_what_is_kept_changes_no_digit(encoder: Encoder, kept: int) -> None:
    encoder.train()
    loss, whole = gradient(encoder, pass_tokens=10_000, at_once=20)
    found, parts = gradient(encoder, pass_tokens=kept, at_once=20)
    assert found == loss
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6 * whole.abs().max().item())
    _, other = gradient(encoder, pass_tokens=kept, at_once=20, seed=1)
    assert not torch.allclose(other, whole, rtol=1e-2)


def test_random_numbers_go_on_as_if_nothing_had_been_computed_again(encoder: Encoder) -> None:
    encoder.train()
    gradient(encoder, pass_tokens=10_000, at_once=20)
    expected = torch.rand(3)
    gradient(encoder, pass_tokens=20, at_once=20)
    assert torch.equal(torch.rand(3), expected)


class Alive:
    """How many tokens' inner activations are alive at once: counted in every pass of a layer, at most."""

    def __init__(self, layer: nn.Module) -> None:
        self.most = self.passes = 0
        self._seen: list[tuple[weakref.ref[Tensor], int]] = []
        layer.register_forward_hook(self._note)

    def _note(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.passes += 1
        self._seen.append((weakref.ref(output), output.shape[0] * output.shape[1]))
        self.most = max(self.most, sum(size for tensor, size in self._seen if tensor() is not None))


@pytest.fixture
def alive(encoder: Encoder) -> Iterator[Alive]:
    network: Any = encoder.transformer
    encoder.embed([[5, 6], [7]])  # the first time it is tried whether it can skip padding
    yield Alive(network.encoder.layer[0].intermediate.dense)


@pytest.mark.parametrize("pass_tokens", [25, 50])
def test_activations_are_those_of_one_pass(encoder: Encoder, alive: Alive, pass_tokens: int) -> None:
    gradient(encoder, pass_tokens=pass_tokens, at_once=pass_tokens)
    assert pass_tokens / 2 < alive.most <= pass_tokens + 25  # what is kept, and one pass that leaves nothing
    once = alive.passes
    gradient(encoder, pass_tokens=10_000, at_once=pass_tokens)
    assert alive.most >= TOKENS
    assert once > alive.passes - once  # some passes are computed twice, those of the last `pass_tokens` are not
    assert once < 2 * (alive.passes - once)


def test_bf16_weights_get_the_gradient_of_one_batch(encoder: Encoder) -> None:
    encoder.bfloat16()
    _, whole = gradient(encoder, pass_tokens=10_000)
    _, parts = gradient(encoder, pass_tokens=20)
    assert parts.dtype == torch.bfloat16
    assert (parts - whole).float().norm() < 0.05 * whole.float().norm()


def test_nothing_is_kept_where_no_gradient_flows(encoder: Encoder) -> None:
    with torch.no_grad():
        [found] = cached_vectors(
            [Side(encoder.embed, PASSAGES)], pass_tokens=20, at_once=20, device=torch.device("cpu")
        )
    assert not found.requires_grad


def test_a_side_that_stands_still_leaves_nothing_and_takes_no_room(encoder: Encoder, alive: Alive) -> None:
    still = Encoder(copy.deepcopy(encoder.transformer), encoder.tokenizer, pooling="mean", form=encoder.format)
    longest = max(map(len, QUERIES))
    room = len(QUERIES) * longest  # for the queries alone
    for sides in (
        [Side(encoder.embed, QUERIES), Side(still.embed, PASSAGES, moves=False)],
        [Side(still.embed, PASSAGES, moves=False), Side(encoder.embed, QUERIES)],
    ):
        alive.passes = 0
        found = cached_vectors(sides, pass_tokens=room, at_once=room, device=torch.device("cpu"))
        assert [vectors.requires_grad for vectors in found] == [side.moves for side in sides]
        (found[0] @ found[1].T).logsumexp(dim=1).sum().backward()
        assert alive.passes == 1  # no pass is computed again
        assert all(weight.grad is None for weight in still.parameters())
