import pytest
import torch
from sentence_transformers.util.similarity import maxsim as theirs
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from burnish.models import maxsim as module
from burnish.models.maxsim import EMPTY, Packed, maxsim

QUERIES = [3, 1, 7, 7, 2]
PASSAGES = [5, 2, 9, 5, 1, 4, 9]


def packed(lengths: list[int], *, seed: int, width: int = 8) -> Packed:
    draw = torch.Generator().manual_seed(seed)
    vectors = functional.normalize(torch.randn(sum(lengths), width, generator=draw), dim=-1)
    return Packed(vectors.requires_grad_(), torch.tensor(lengths, dtype=torch.long))


def naive(queries: Packed, passages: Packed) -> Tensor:
    """The definition, with every token against every other and the padding left out."""
    a, b = (pad_sequence(side.texts, batch_first=True) for side in (queries, passages))
    real_a, real_b = (torch.arange(t.shape[1]) < s.lengths[:, None] for t, s in ((a, queries), (b, passages)))
    table = torch.einsum("qiw,pjw->qpij", a, b).masked_fill(~real_b[None, :, None], -torch.inf)
    return (table.amax(dim=-1) * real_a[:, None]).sum(dim=-1)


def gradients(scores: Tensor, *sides: Packed) -> list[Tensor]:
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(9))
    return list(torch.autograd.grad((scores * weights).sum(), [side.vectors for side in sides]))


@pytest.mark.parametrize("cells", [1, 60, 1 << 22])
def test_value_and_gradient_are_those_of_the_whole_table(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", cells)
    queries, passages = packed(QUERIES, seed=0), packed(PASSAGES, seed=1)
    ours, expected = maxsim(queries, passages), naive(queries, passages)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    for mine, other in zip(gradients(ours, queries, passages), gradients(expected, queries, passages), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


def test_value_and_gradient_are_those_of_sentence_transformers() -> None:
    queries, passages = packed(QUERIES, seed=2), packed(PASSAGES, seed=3)
    ours, expected = maxsim(queries, passages), theirs(queries.texts, passages.texts)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
    for mine, other in zip(gradients(ours, queries, passages), gradients(expected, queries, passages), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


def test_the_gradient_is_that_of_finite_differences() -> None:
    queries, passages = (packed(lengths, seed=4, width=3) for lengths in ([2, 3], [3, 1, 2]))
    lengths = (queries.lengths, passages.lengths)

    def scores(a: Tensor, b: Tensor) -> Tensor:
        return maxsim(Packed(a, lengths[0]), Packed(b, lengths[1])).double()

    inputs = tuple(side.vectors.detach().double().requires_grad_() for side in (queries, passages))
    assert torch.autograd.gradcheck(scores, inputs, atol=1e-3, rtol=1e-3, eps=1e-3)


def test_a_query_that_stands_in_a_passage_scores_its_length() -> None:
    queries = packed([4], seed=5)
    passages = Packed(torch.cat([queries.vectors, packed([3], seed=6).vectors]).detach(), torch.tensor([7]))
    assert maxsim(queries, passages).item() == pytest.approx(4.0, rel=1e-6)


def test_a_passage_without_tokens_scores_as_in_sentence_transformers() -> None:
    queries, passages = packed([2, 3], seed=7), packed([2, 0, 4], seed=8)
    scores = maxsim(queries, passages)
    assert scores[:, 1].tolist() == [EMPTY, EMPTY]
    torch.testing.assert_close(scores, theirs(queries.texts, passages.texts), atol=1e-6, rtol=1e-6)
    assert all(found.isfinite().all() for found in gradients(scores[:, [0, 2]], queries, passages))


@pytest.mark.filterwarnings("ignore:Encountered documents")
def test_no_queries_and_no_passages_are_no_error() -> None:
    assert maxsim(packed([], seed=0), packed([2], seed=0)).shape == (0, 1)
    assert maxsim(packed([2], seed=0), packed([], seed=0)).shape == (1, 0)


def test_the_place_of_each_maximum_is_all_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, passages = packed([8] * 16, seed=0), packed([50] * 16, seed=1)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        maxsim(queries, passages)
    inputs = {queries.vectors.data_ptr(), passages.vectors.data_ptr()}
    own = [tensor for tensor in kept if tensor.data_ptr() not in inputs and tensor.dim() == 2]
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in own] == [((8 * 16, 16), torch.int32)]


def test_autocast_does_not_change_the_scores() -> None:
    queries, passages = packed(QUERIES, seed=0), packed(PASSAGES, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = maxsim(queries, passages)
    assert torch.equal(found, maxsim(queries, passages))
