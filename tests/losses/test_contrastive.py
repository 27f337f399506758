import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim
from torch import Tensor, nn

from burnish.losses.contrastive import Contrastive


def scores_and_positives(rows: int = 6, passages: int = 11, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return cosines, and positives of which each row has at least one and some have several."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, passages, generator=draw) * 2 - 1
    positive = torch.rand(rows, passages, generator=draw) < 0.2
    positive[range(rows), range(rows)] = True
    return scores, positive


def by_hand(scores: Tensor, positive: Tensor, *, temperature: float, false_negatives: float | None = None) -> float:
    """Return the loss as its docstring says it, in double precision and one term at a time."""
    total = 0.0
    for row, right in zip(scores.double().tolist(), positive.tolist(), strict=True):
        places = [place for place, is_right in enumerate(right) if is_right]
        for place in places:
            wrong = [
                score
                for other, score in enumerate(row)
                if not right[other] and (false_negatives is None or score <= row[place] + false_negatives)
            ]
            mass = sum(math.exp((score - row[place]) / temperature) for score in wrong)
            total += math.log1p(mass) / len(places)
    return total


@pytest.mark.parametrize("false_negatives", [None, 0.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_that_of_a_loop_written_by_hand(seed: int, false_negatives: float | None):
    scores, positive = scores_and_positives(seed=seed)
    loss = Contrastive(temperature=0.1, false_negatives=false_negatives)(scores, positive)
    expected = by_hand(scores, positive, temperature=0.1, false_negatives=false_negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_masked_false_negative_gets_no_gradient():
    scores = torch.tensor([[0.5, 0.9, 0.1]], requires_grad=True)
    Contrastive(false_negatives=0.2)(scores, torch.tensor([[True, False, False]])).backward()
    assert scores.grad is not None
    assert scores.grad[0, 1] == 0
    assert scores.grad[0, 2] > 0


def test_the_gradient_is_softmax_minus_one_hot_over_the_temperature():
    scores, _ = scores_and_positives()
    scores.requires_grad_()
    positive = torch.eye(6, 11, dtype=torch.bool)
    Contrastive(temperature=0.2)(scores, positive).backward()
    expected = ((scores / 0.2).softmax(dim=1) - positive.float()) / 0.2
    torch.testing.assert_close(scores.grad, expected.detach())


def test_the_gradient_is_the_slope_of_the_loss():
    scores, positive = scores_and_positives(4, 7)
    scores.requires_grad_()
    Contrastive(temperature=0.3)(scores, positive).backward()
    assert scores.grad is not None
    step = 1e-5
    for row in range(4):
        for column in range(7):
            above, below = scores.detach().double(), scores.detach().double()
            above[row, column] += step
            below[row, column] -= step
            rise = by_hand(above, positive, temperature=0.3) - by_hand(below, positive, temperature=0.3)
            assert scores.grad[row, column].item() == pytest.approx(rise / (2 * step), abs=1e-4)


def test_the_loss_is_the_sum_over_its_rows():
    scores, positive = scores_and_positives()
    loss = Contrastive()
    single = sum(loss(scores[row : row + 1], positive[row : row + 1]).item() for row in range(len(scores)))
    assert loss(scores, positive).item() == pytest.approx(single, rel=1e-6)


def test_the_order_of_rows_and_of_passages_does_not_matter():
    scores, positive = scores_and_positives()
    rows, columns = torch.tensor([3, 0, 5, 1, 4, 2]), torch.randperm(11, generator=torch.Generator().manual_seed(1))
    turned = Contrastive()(scores[rows][:, columns], positive[rows][:, columns])
    assert turned.item() == pytest.approx(Contrastive()(scores, positive).item(), rel=1e-6)


@pytest.mark.parametrize("right", [-1.0, 1.0])
def test_loss_and_gradient_are_finite_at_the_extremes(right: float):
    scores = torch.tensor([[right, -right, -right], [-right, right, right]], requires_grad=True)
    loss = Contrastive(temperature=1e-3)(scores, torch.eye(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_row_without_negatives_costs_nothing():
    scores = torch.tensor([[0.3, 0.4]], requires_grad=True)
    loss = Contrastive()(scores, torch.tensor([[True, True]]))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 0]]


def test_scores_in_half_precision_are_summed_in_fp32():
    scores, positive = scores_and_positives()
    loss = Contrastive()(scores.bfloat16(), positive)
    assert loss.dtype == torch.float32
    assert loss.item() == Contrastive()(scores.bfloat16().float(), positive).item()


def test_a_learned_scale_stands_for_the_temperature_and_gets_a_gradient():
    scores, positive = scores_and_positives()
    scale = torch.tensor(10.0, requires_grad=True)
    loss = Contrastive(temperature=0.5)(scores, positive, scale=scale)
    loss.backward()
    assert loss.item() == pytest.approx(Contrastive(temperature=0.1)(scores, positive).item(), rel=1e-6)
    assert scale.grad is not None
    assert scale.grad != 0


class _Given(nn.Module):
    """A model whose sentence embeddings are its input."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


def test_sentence_transformers_has_the_same_mean():
    draw = torch.Generator().manual_seed(0)
    queries, positives, negatives = (
        nn.functional.normalize(torch.randn(8, 16, generator=draw), dim=-1) for _ in range(3)
    )
    theirs = MultipleNegativesRankingLoss(_Given(), scale=20.0, similarity_fct=cos_sim)
    features = [{"sentence_embedding": part} for part in (queries, positives, negatives)]
    expected = theirs(features, torch.zeros(8)).item()
    scores = queries @ torch.cat([positives, negatives]).T
    ours = Contrastive(temperature=1 / 20)(scores, torch.eye(8, 16, dtype=torch.bool)) / 8
    assert ours.item() == pytest.approx(expected, rel=1e-5)
