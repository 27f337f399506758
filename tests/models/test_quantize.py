import numpy as np
import pytest
import torch

from burnish.models.quantize import Binary, Int8, rescored

DRAW = torch.Generator().manual_seed(0)


def unit(rows: int, width: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=DRAW), dim=1)


class Held:
    """Vectors in memory of which any rows can be read."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def at(self, rows: torch.Tensor) -> torch.Tensor:
        return self.vectors[rows]


def ranked(values: np.ndarray, k: int) -> list[int]:
    """Return the places of the k largest; of equal ones the later."""
    return sorted(range(len(values)), key=lambda place: (values[place], place), reverse=True)[:k]


@pytest.mark.parametrize("width", [64, 100, 32])
def test_binary_search_ranks_by_the_bits_that_differ(width: int) -> None:
    vectors, queries = unit(300, width), unit(7, width)
    vectors[200:210] = vectors[3]  # equal ones: the later row comes first
    apart = ((queries.numpy() > 0)[:, None] != (vectors.numpy() > 0)[None]).sum(axis=2)
    codes = Binary.of(vectors)
    for k in (1, 20, 300):
        assert codes.nearest(queries, k).tolist() == [ranked(-line, k) for line in apart]
    assert codes.nearest(queries, 999).shape == (7, 300)
    assert codes.bytes == -(-width // 64) * 8 * 300


def test_int8_codes_stand_within_half_a_step_of_the_numbers() -> None:
    vectors = unit(500, 24) * torch.linspace(0.01, 3, 24) + torch.linspace(-2, 2, 24)
    codes = Int8.of(vectors)
    low, high = vectors.amin(dim=0), vectors.amax(dim=0)
    assert torch.allclose(codes.step, (high - low) / 254)
    back = codes.codes * codes.step + (low + high) / 2
    assert ((back - vectors).abs() <= codes.step / 2 + 1e-6).all()  # numbers near 3 are rounded by 1e-7
    assert codes.codes.amax(dim=0).tolist() == [127] * 24
    assert codes.codes.amin(dim=0).tolist() == [-127] * 24
    assert codes.bytes == 500 * 24


@pytest.mark.parametrize(("width", "rows"), [(24, 500), (384, 130), (33, 17)])
def test_int8_search_ranks_by_the_whole_numbers_products(width: int, rows: int) -> None:
    vectors, queries = unit(rows, width), unit(9, width)
    vectors[5] = vectors[9]
    codes = Int8.of(vectors)
    asked = queries * codes.step
    asked = (asked / asked.abs().amax(dim=1, keepdim=True) * 127).round().long()
    scores = (asked @ codes.codes.long().T).numpy()
    for k in (1, 10, rows):
        assert codes.nearest(queries, k).tolist() == [ranked(line, k) for line in scores]


def test_int8_search_does_not_depend_on_who_asks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, queries = Int8.of(unit(200, 32)), unit(8, 32)
    together = codes.nearest(queries, 15)
    monkeypatch.setattr("burnish.models.quantize.SCORES", 400)  # two at a time
    assert torch.equal(codes.nearest(queries, 15), together)
    assert torch.equal(torch.cat([codes.nearest(query[None], 15) for query in queries]), together)


def test_a_dimension_that_never_changes_does_no_harm() -> None:
    vectors = unit(50, 8)
    vectors[:, 2] = 0.25
    codes = Int8.of(vectors)
    assert codes.step[2] == 1
    assert (codes.codes[:, 2] == 0).all()
    queries = torch.zeros(1, 8)
    queries[0, 2] = 1.0  # asks for nothing that tells the passages apart
    assert codes.nearest(queries, 3).shape == (1, 3)


@pytest.mark.parametrize("codes", [Int8, Binary])
def test_nothing_is_found_among_no_vectors(codes: type[Int8] | type[Binary]) -> None:
    assert codes.of(torch.empty(0, 16)).nearest(unit(3, 16), 5).shape == (3, 0)
    assert codes.of(unit(4, 16)).nearest(torch.empty(0, 16), 5).shape == (0, 4)


def test_candidates_are_ordered_by_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit(60, 16), unit(5, 16)
    vectors[30] = vectors[31]
    others = torch.tensor([row for row in range(60) if row not in (30, 31)])
    rows = torch.stack([others[torch.randperm(58, generator=DRAW)[:20]] for _ in queries])
    rows[:, :2] = torch.tensor([31, 30])
    rows[2, 5:] = -1
    monkeypatch.setattr("burnish.models.quantize.SCORES", 2 * 20 * 16)  # two queries at a time
    scores, found = rescored(queries, Held(vectors), rows, 8)
    for query, candidates, best, places in zip(queries, rows, scores, found, strict=True):
        by_row = {row: float(query @ vectors[row]) if row >= 0 else -torch.inf for row in candidates.tolist()}
        by_row[30] = by_row[31]
        expected = sorted({*by_row} - {-1}, key=lambda row: (by_row[row], row), reverse=True)[:8]
        kept = [row for row in places.tolist() if row >= 0]
        assert kept == expected
        assert best[: len(kept)].tolist() == pytest.approx([by_row[row] for row in expected], abs=1e-6)
        assert (best[len(kept) :] == -torch.inf).all()


def test_all_as_candidates_are_the_exact_search() -> None:
    vectors, queries = unit(80, 32), unit(6, 32)
    exact = (queries @ vectors.T).topk(10).indices
    for codes in (Int8.of(vectors), Binary.of(vectors)):
        _, rows = rescored(queries, Held(vectors), codes.nearest(queries, 80), 10)
        assert torch.equal(rows, exact)
