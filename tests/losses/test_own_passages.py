"""Losses over a row's own passages: triplet, margin_mse, distill."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss, TripletLoss
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric
from torch import Tensor, nn

from burnish.losses.distill import Distill
from burnish.losses.margin_mse import MarginMse
from burnish.losses.triplet import Triplet

ROWS, WRONG = 6, 3


class _Given(nn.Module):
    """A model whose sentence embeddings are its input."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


def columns(count: int) -> list[Tensor]:
    """Return the vectors of queries, positives and negatives, each (rows, width) and of unit length."""
    draw = torch.Generator().manual_seed(0)
    return [nn.functional.normalize(torch.randn(ROWS, 8, generator=draw), dim=1).requires_grad_() for _ in range(count)]


def kinds(positives: int = 1, negatives: int = WRONG) -> tuple[Tensor, Tensor]:
    right = (torch.arange(positives + negatives) < positives).repeat(ROWS, 1)
    return right, ~right


def teacher(candidates: int = 1 + WRONG, *, spread: float = 1.0) -> Tensor:
    return torch.randn(ROWS, candidates, generator=torch.Generator().manual_seed(1)) * spread


def cosines(texts: list[Tensor]) -> Tensor:
    return torch.stack([(texts[0] * other).sum(dim=1) for other in texts[1:]], dim=1)


def assert_same(ours: Tensor, theirs: Tensor, texts: list[Tensor]) -> None:
    """Check value and gradient; ours is a sum over rows, and its gradient that of vectors of unit length."""
    assert ours.item() / ROWS == pytest.approx(theirs.item(), rel=1e-5)
    pairs = zip(torch.autograd.grad(ours / ROWS, texts), torch.autograd.grad(theirs, texts), strict=True)
    for vector, (mine, other) in zip(texts, pairs, strict=True):
        apart = mine - other
        sideways = apart - (apart * vector.detach()).sum(dim=1, keepdim=True) * vector.detach()
        assert sideways.abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


@pytest.mark.parametrize(("distance", "theirs"), [("cosine", "COSINE"), ("euclidean", "EUCLIDEAN")])
@pytest.mark.parametrize("margin", [0.1, 0.5, 5.0])
def test_triplet_is_that_of_sentence_transformers(distance: Any, theirs: str, margin: float) -> None:
    texts = columns(3)
    metric = vars(TripletDistanceMetric)[theirs]
    expected = TripletLoss(_Given(), distance_metric=metric, triplet_margin=margin)
    ours = Triplet(distance=distance, margin=margin)(cosines(texts), *kinds(1, 1))
    assert_same(ours, expected([{"sentence_embedding": text} for text in texts], torch.zeros(ROWS)), texts)


@pytest.mark.parametrize("negatives", [1, WRONG])
def test_margin_mse_is_that_of_sentence_transformers(negatives: int) -> None:
    texts = columns(2 + negatives)
    labels = teacher(1 + negatives)
    expected = MarginMSELoss(_Given())([{"sentence_embedding": text} for text in texts], labels)
    assert_same(MarginMse()(cosines(texts), *kinds(1, negatives), labels), expected, texts)


@pytest.mark.parametrize(("ours", "theirs"), [(1.0, 1.0), (0.5, 2.0), (0.05, 1.0)])
def test_distill_is_that_of_sentence_transformers(ours: float, theirs: float) -> None:
    texts, labels = columns(2 + WRONG), teacher()
    their_loss = DistillKLDivLoss(_Given(), student_temperature=ours, teacher_temperature=theirs)
    expected = their_loss([{"sentence_embedding": text} for text in texts], labels)
    loss = Distill(temperature=ours, teacher_temperature=theirs)
    assert_same(loss(cosines(texts), torch.ones(ROWS, 1 + WRONG, dtype=torch.bool), labels), expected, texts)


def uneven() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores, positives, negatives and a teacher's scores of rows of different sizes."""
    draw = torch.Generator().manual_seed(3)
    scores = torch.rand(3, 5, generator=draw) * 2 - 1
    positive = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    negative = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]).bool()
    return scores.requires_grad_(), positive, negative, torch.randn(3, 5, generator=draw)


def triplets(scores: list[float], right: list[int], wrong: list[int], _: list[float]) -> float:
    costs = [max(0.0, (1 - scores[p]) - (1 - scores[n]) + 0.1) for p in right for n in wrong]
    return sum(costs) / len(costs)


def margins(scores: list[float], right: list[int], wrong: list[int], taught: list[float]) -> float:
    costs = [((scores[p] - scores[n]) * 2 - (taught[p] - taught[n])) ** 2 for p in right for n in wrong]
    return sum(costs) / len(costs)


def divergence(scores: list[float], right: list[int], wrong: list[int], taught: list[float]) -> float:
    def shares(values: list[float], temperature: float) -> list[float]:
        mass = [math.exp(values[place] / temperature) for place in (*right, *wrong)]
        return [part / sum(mass) for part in mass]

    pairs = zip(shares(taught, 1.5), shares(scores, 0.5), strict=True)
    return 0.25 * sum(theirs * math.log(theirs / ours) for theirs, ours in pairs)


CALLS: list[tuple[Callable[..., float], Callable[..., Tensor]]] = [
    (triplets, lambda s, p, n, _: Triplet()(s, p, n)),
    (margins, MarginMse(scale=2.0)),
    (divergence, lambda s, p, n, t: Distill(temperature=0.5, teacher_temperature=1.5)(s, p | n, t)),
]


@pytest.mark.parametrize(("by_hand", "loss"), CALLS, ids=["triplet", "margin_mse", "distill"])
def test_rows_of_different_sizes_are_each_their_own_mean(by_hand: Callable[..., float], loss: Any) -> None:
    scores, positive, negative, taught = uneven()

    def total(values: Tensor) -> float:
        return sum(
            by_hand(row.tolist(), p.nonzero()[:, 0].tolist(), n.nonzero()[:, 0].tolist(), t.tolist())
            for row, p, n, t in zip(values, positive, negative, taught.double(), strict=True)
        )

    found = loss(scores, positive, negative, taught)
    assert found.item() == pytest.approx(total(scores.detach().double()), rel=1e-5)
    [gradient] = torch.autograd.grad(found, scores)
    for row, column in [(0, 0), (0, 4), (1, 1), (1, 3), (2, 1), (2, 4)]:
        above, below = scores.detach().double(), scores.detach().double()
        above[row, column] += 1e-6
        below[row, column] -= 1e-6
        assert gradient[row, column].item() == pytest.approx((total(above) - total(below)) / 2e-6, abs=1e-4)


@pytest.mark.parametrize(("_", "loss"), CALLS, ids=["triplet", "margin_mse", "distill"])
def test_what_pads_a_row_changes_nothing(_: Any, loss: Any) -> None:
    scores, positive, negative, taught = uneven()
    odd = taught.masked_fill(~(positive | negative), 1e4)
    assert loss(scores, positive, negative, odd).item() == loss(scores, positive, negative, taught).item()
    whole = sum(loss(*(part[row : row + 1] for part in (scores, positive, negative, taught))) for row in range(3))
    assert whole.item() == pytest.approx(loss(scores, positive, negative, taught).item(), rel=1e-6)


def test_equal_vectors_have_a_finite_euclidean_slope() -> None:
    scores = torch.tensor([[1.0, 1.0]], requires_grad=True)
    right = torch.tensor([[True, False]])
    Triplet(distance="euclidean")(scores, right, ~right).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_student_like_its_teacher_costs_nothing() -> None:
    scores, positive, negative, _ = uneven()
    assert MarginMse()(scores, positive, negative, scores.detach()).item() == 0
    loss = Distill(temperature=0.3, teacher_temperature=0.3)
    assert loss(scores, positive | negative, scores.detach()).item() == pytest.approx(0, abs=1e-6)


def test_a_margin_that_is_kept_costs_nothing() -> None:
    right = torch.tensor([[True, False]])
    assert Triplet(margin=0.2)(torch.tensor([[0.9, 0.6]]), right, ~right).item() == 0
    assert Triplet(margin=0.2)(torch.tensor([[0.9, 0.8]]), right, ~right).item() == pytest.approx(0.1)
