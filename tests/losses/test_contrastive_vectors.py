"""The same loss from vectors: tile by tile, in every direction."""

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.losses import Loss, contrastive
from burnish.losses.contrastive import Contrastive, Direction

ALL: tuple[Direction, ...] = ("query_to_passage", "passage_to_query", "query_to_query", "passage_to_passage")
BOTH = ALL[:2]


def vectors(rows: int, *, seed: int, width: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(rows, width, generator=draw), dim=1).requires_grad_()


def links(queries: int, passages: int, *, seed: int, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return which passages are positives, at least one a query, and which are known not to be wrong."""
    draw = torch.Generator().manual_seed(seed)
    positive = torch.rand(queries, passages, generator=draw) < share
    positive[range(queries), range(queries)] = True
    return positive, positive | (torch.rand(queries, passages, generator=draw) < share)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive, "TILE", (3, 4))


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("softmax", ["joint", "apart"])
@pytest.mark.parametrize("directions", [ALL[:1], BOTH])
@pytest.mark.parametrize("false_negatives", [None, 0.1])
@pytest.mark.usefixtures("small_tiles")
def test_tiles_give_what_whole_scores_give(
    softmax: str, directions: tuple[Direction, ...], false_negatives: float | None
) -> None:
    queries, passages = vectors(7, seed=0), vectors(13, seed=1)
    positive, known = links(7, 13, seed=2)
    scale = torch.tensor(8.0, requires_grad=True)
    loss = Contrastive(softmax=softmax, directions=directions, false_negatives=false_negatives)  # type: ignore[arg-type]
    whole = loss(queries @ passages.T, positive, known_qd=known, scale=scale)
    tiled = loss.of_vectors(queries, passages, positive.nonzero(), known=known.nonzero(), scale=scale)
    assert tiled.item() == pytest.approx(whole.item(), rel=1e-6)
    inputs = (queries, passages, scale)
    for ours, theirs in zip(gradients(tiled, *inputs), gradients(whole, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * theirs.abs().max().item())


@pytest.mark.parametrize("tile", [(1, 1), (2, 5), (100, 100)])
def test_the_size_of_a_tile_changes_nothing(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    queries, passages = vectors(6, seed=0), vectors(11, seed=1)
    positives = links(6, 11, seed=2)[0].nonzero()
    loss = Contrastive(directions=ALL, false_negatives=0.5)
    expected = loss.of_vectors(queries, passages, positives)
    monkeypatch.setattr(contrastive, "TILE", tile)
    found = loss.of_vectors(queries, passages, positives)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    inputs = (queries, passages)
    for ours, theirs in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def by_hand(loss: Contrastive, queries: Tensor, passages: Tensor, positive: Tensor, own: Tensor) -> float:
    """Return the loss of all directions in one denominator, one line at a time, in double precision."""
    q, d = queries.detach().double(), passages.detach().double()
    total = 0.0
    for row, column in positive.nonzero().tolist():
        right = (q[row] @ d[column]).item()
        others = [(q[row] @ d[c]).item() for c in range(len(d)) if not positive[row, c]]
        askers = [r for r in range(len(q)) if not positive[r, column]]
        others += [right, *((q[r] @ d[column]).item() for r in askers), *((q[r] @ q[row]).item() for r in askers)]
        others += [(d[c] @ d[column]).item() for c in range(len(d)) if not positive[row, c] and not own[row, c]]
        logits = torch.tensor([right, *others], dtype=torch.double) / loss.temperature
        total += (logits.logsumexp(0) - logits[0]).item() / positive[row].sum().item()
    return total


@pytest.mark.usefixtures("small_tiles")
def test_all_directions_are_those_of_a_loop_written_by_hand() -> None:
    queries, passages = vectors(5, seed=0), vectors(9, seed=1)
    positive, known = links(5, 9, seed=2)
    own = known & ~positive
    loss = Contrastive(directions=ALL, temperature=0.2)
    found = loss.of_vectors(queries, passages, positive.nonzero(), negatives=own.nonzero())
    assert found.item() == pytest.approx(by_hand(loss, queries, passages, positive, own), rel=1e-5)


@pytest.mark.parametrize("softmax", ["joint", "apart"])
@pytest.mark.usefixtures("small_tiles")
def test_the_gradient_is_the_slope_of_the_loss(softmax: str) -> None:
    queries, passages = vectors(4, seed=0, width=3), vectors(7, seed=1, width=3)
    positives = links(4, 7, seed=2)[0].nonzero()
    loss = Contrastive(directions=ALL if softmax == "joint" else BOTH, softmax=softmax, temperature=0.5)  # type: ignore[arg-type]
    found = gradients(loss.of_vectors(queries, passages, positives), queries, passages)
    step = 1e-2
    for place, gradient in enumerate(found):
        for at in [(0, 0), (1, 2), (3, 1)]:
            sides = []
            for sign in (1, -1):
                moved = [queries.detach().clone(), passages.detach().clone()]
                moved[place][at] += sign * step
                sides.append(loss.of_vectors(*moved, positives).item())
            assert gradient[at].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=2e-3)


class _Given(nn.Module):
    """A model whose sentence embeddings are its input."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


THEIRS = {
    "query_to_passage": "query_to_doc",
    "passage_to_query": "doc_to_query",
    "query_to_query": "query_to_query",
    "passage_to_passage": "doc_to_doc",
}


@pytest.mark.parametrize(
    ("directions", "softmax"),
    [
        (ALL[:1], "joint"),
        (BOTH, "joint"),
        (BOTH, "apart"),
        (ALL[:3], "joint"),
        ((ALL[0], ALL[3]), "joint"),
        (ALL, "joint"),
    ],
)
@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_sentence_transformers_has_the_same_mean_and_gradient(
    directions: tuple[Direction, ...], softmax: str, negatives: int
) -> None:
    columns = [vectors(8, seed=number) for number in range(2 + negatives)]
    theirs = MultipleNegativesRankingLoss(
        _Given(),
        scale=20.0,
        similarity_fct=cos_sim,
        directions=tuple(THEIRS[direction] for direction in directions),
        partition_mode="joint" if softmax == "joint" else "per_direction",
    )
    expected = theirs([{"sentence_embedding": column} for column in columns], torch.zeros(8))
    rows = torch.arange(8)
    own = torch.stack([rows.repeat(negatives), torch.arange(8, 8 + 8 * negatives)], dim=1)
    ours = Contrastive(
        temperature=1 / 20, directions=directions, softmax=softmax
    ).of_vectors(  # type: ignore[arg-type]
        columns[0], torch.cat(columns[1:]), torch.stack([rows, rows], dim=1), negatives=own
    )
    assert ours.item() / 8 == pytest.approx(expected.item(), rel=1e-5)
    for column, ours_, theirs_ in zip(columns, gradients(ours, *columns), gradients(expected, *columns), strict=True):
        along = (theirs_ * column.detach()).sum(dim=1, keepdim=True)  # theirs goes through cosines
        straight = (ours_ * column.detach()).sum(dim=1, keepdim=True)
        flat = ours_ / 8 - straight / 8 * column.detach()
        torch.testing.assert_close(flat, theirs_ - along * column.detach(), rtol=1e-5, atol=1e-6)


def test_a_known_passage_is_no_negative_and_gets_no_gradient() -> None:
    queries, passages = vectors(1, seed=0), vectors(3, seed=1)
    loss = Contrastive().of_vectors(queries, passages, torch.tensor([[0, 0]]), known=torch.tensor([[0, 0], [0, 2]]))
    [gradient] = gradients(loss, passages)
    assert gradient[1].any()
    assert not gradient[2].any()


def test_a_query_without_negatives_costs_nothing_and_gets_no_gradient() -> None:
    queries, passages = vectors(1, seed=0), vectors(2, seed=1)
    loss = Contrastive(directions=BOTH, softmax="apart").of_vectors(queries, passages, torch.tensor([[0, 0], [0, 1]]))
    assert loss.item() == 0
    for gradient in gradients(loss, queries, passages):
        assert gradient.abs().max() == 0


def test_a_query_that_scores_far_above_the_right_pair_is_masked_in_every_direction() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    passages = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    positives = torch.tensor([[0, 0], [1, 1]])
    plain = Contrastive(directions=("query_to_passage", "query_to_query")).of_vectors(queries, passages, positives)
    masked = Contrastive(directions=("query_to_passage", "query_to_query"), false_negatives=0.0)
    assert masked.of_vectors(queries, passages, positives) < plain


def test_logits_are_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    monkeypatch.setattr(contrastive, "TILE", (8, 8))
    queries, passages = vectors(64, seed=0), vectors(256, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = Contrastive(directions=ALL).of_vectors(queries, passages, torch.arange(64).repeat(2, 1).T)
    loss.backward()
    assert largest == passages.numel()  # of 16 numbers each; logits would be 64 a passage


@pytest.mark.parametrize("direction", ALL[2:])
def test_scores_alone_do_not_tell_queries_from_queries(direction: Direction) -> None:
    loss = Contrastive(directions=("query_to_passage", direction))
    with pytest.raises(RecipeError, match=f"{direction} needs one vector a text; here are scores alone"):
        loss(torch.zeros(2, 2), torch.eye(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"directions": ["passage_to_query"]}, "directions need query_to_passage, in which the right pair stands"),
        ({"directions": ["query_to_passage"] * 2}, "a direction stands twice in query_to_passage, query_to_passage"),
        (
            {"directions": ["query_to_passage", "query_to_query"], "softmax": "apart"},
            "query_to_query holds no right pair to stand apart with; use `softmax: joint`",
        ),
    ],
)
def test_directions_that_make_no_loss_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Loss.read({"kind": "contrastive", **settings})
