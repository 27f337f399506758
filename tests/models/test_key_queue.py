"""A queue of passages: what it holds after any steps, and that an answer in it is never a negative of its query."""

import copy
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models import key_queue
from burnish.models.encode import Encoder
from burnish.models.key_queue import KeyQueue, Queue, queue_of, start_queue
from burnish.prepare.pair_batch import pair_batch
from burnish.prepare.pair_items import PairItem

TEXTS = [tuple(range(5, 5 + length)) for length in (3, 9, 4, 6, 7, 12, 5, 8)]
STEPS = [TEXTS[:2], TEXTS[2:3], TEXTS[3:6], TEXTS[5:8], TEXTS[:1]]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(str(tiny.tiny_bert(tmp_path / "bert")), dtype=torch.float32)


def moved(encoder: Encoder, number: int) -> None:
    """Move what is trained, as a step would."""
    draw = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.1)


def vectors_of(encoder: Encoder, texts: Any) -> Tensor:
    return encoder.encode_ids(texts, progress=lambda *_: None)


def empty() -> tuple[Tensor, Any]:
    """Return a batch of one query with a passage that is in no step."""
    item = PairItem("a", 1, (5,), ((99, 98),), ())
    return torch.zeros(1, 32), pair_batch([item])


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.99])
@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("method", [Full(), Lora(rank=4)], ids=["full", "lora"])
def test_the_queue_holds_the_last_passages_as_a_copy_that_follows_reads_them(
    momentum: float, size: int, method: Any, encoder: Encoder
) -> None:
    method.apply(encoder)
    encoder.train()  # the copy reads without dropout
    queue = KeyQueue(encoder, Queue(passages=size, momentum=momentum))
    follower = copy.deepcopy(encoder)
    expected: deque[Tensor] = deque(maxlen=size)
    for number, texts in enumerate(STEPS):
        moved(encoder, number)
        before = [weight.detach().clone() for weight in encoder.parameters()]
        queue.follow(encoder, texts)
        assert encoder.training
        assert all(torch.equal(one, other) for one, other in zip(before, encoder.parameters(), strict=True))
        with torch.no_grad():
            for slow, weight in zip(follower.parameters(), encoder.parameters(), strict=True):
                slow.copy_(momentum * slow + (1 - momentum) * weight)
        expected += [*vectors_of(follower, texts)]
    passages, batch = empty()
    found, _ = queue.behind(passages, batch)
    ours, theirs = found[1:], torch.stack([*expected])
    assert ours.shape == theirs.shape
    for vector in theirs:  # in a ring: the order is of no matter
        assert (ours - vector).abs().amax(dim=1).min() < 1e-5


def test_nothing_stands_behind_the_passages_of_the_first_step(encoder: Encoder) -> None:
    passages, batch = empty()
    found, known = KeyQueue(encoder, Queue(passages=4)).behind(passages, batch)
    assert torch.equal(found, passages)
    assert torch.equal(known.known, batch.known)


def test_what_answers_a_query_is_known_in_the_queue_as_well(encoder: Encoder) -> None:
    queue = KeyQueue(encoder, Queue(passages=5))
    queue.follow(encoder, TEXTS[:3])
    queue.follow(encoder, [TEXTS[1], TEXTS[3]])
    items = [
        PairItem("a", 1, (5,), (TEXTS[4],), (TEXTS[2],), known=(TEXTS[1],)),  # known by another row, and queued twice
        PairItem("b", 1, (6,), (TEXTS[0], TEXTS[3]), ()),  # its own, which are in the batch too
        PairItem("c", 1, (7,), (TEXTS[7],), ()),
    ]
    batch = pair_batch(items)
    passages = torch.zeros(len(batch.passages), 32)
    found, after = queue.behind(passages, batch)
    assert found.shape == (len(passages) + 5, 32)
    further = {tuple(pair) for pair in after.known.tolist()} - {tuple(pair) for pair in batch.known.tolist()}
    first = len(passages)
    assert further == {(0, first + 1), (0, first + 3), (1, first), (1, first + 4)}
    assert torch.equal(after.candidates_rc, batch.candidates_rc)


def test_no_gradient_reaches_the_queue(encoder: Encoder) -> None:
    queue = KeyQueue(encoder, Queue(passages=4))
    queue.follow(encoder, TEXTS[:3])
    passages = encoder.embed([(50, 51)])
    found, _ = queue.behind(passages, empty()[1])
    assert found.requires_grad
    found[1:].sum().backward()
    assert not any(weight.grad is not None and weight.grad.any() for weight in encoder.parameters())


def test_the_copy_of_an_encoder_in_bf16_follows_in_fp32(encoder: Encoder) -> None:
    encoder.bfloat16()
    queue = KeyQueue(encoder, Queue(passages=4))
    before = queue.state[0].clone()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(1.0)
    for _ in range(10):
        queue.follow(encoder, TEXTS[:1])
    assert queue.state[0].dtype == torch.float32
    gone = queue.state[0] - before
    assert gone.mean().item() == pytest.approx(1 - 0.999**10, rel=1e-2)  # bf16 would have stood still


def test_a_queue_goes_with_its_model(encoder: Encoder) -> None:
    before = len(key_queue._queues)
    queue = start_queue(encoder, encoder, Queue(passages=4))
    layer = nn.Linear(1, 1)
    assert queue_of(encoder) is queue
    start_queue(layer, encoder, Queue(passages=4))
    del layer
    assert len(key_queue._queues) <= before + 1
