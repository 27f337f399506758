from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from burnish.records import Chunk
from burnish.retrievers import Hit, Progress, Retriever, Searcher
from burnish.retrievers.hybrid import Hybrid


class Fixed(Retriever):
    """Returns the same ids for every question, cut at what is asked for."""

    ids: tuple[str, ...]

    def build(self, chunks: Sequence[Chunk], *, cache: Path, progress: Progress) -> Searcher:
        cache.mkdir(exist_ok=True)
        (cache / "-".join(self.ids)).touch()
        return _FixedSearcher(self.ids)


class _FixedSearcher:
    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids

    notes: ClassVar[dict[str, int]] = {}

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return [[Hit(key, -float(rank)) for rank, key in enumerate(self._ids[:k])] for _ in questions]


def ranked(hybrid: Hybrid, folder: Path, k: int) -> list[tuple[str, float]]:
    found = hybrid.build([], cache=folder, progress=lambda *_: None).search(["one", "two"], k)
    assert found[0] == found[1]
    return [(hit.id, hit.score) for hit in found[0]]


def test_ranks_are_fused_by_their_reciprocals(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "d"))))
    expected = [("a", 1 / 61 + 1 / 62), ("c", 1 / 63 + 1 / 61), ("b", 1 / 62), ("d", 1 / 63)]
    assert ranked(hybrid, tmp_path, 10) == [(key, pytest.approx(score)) for key, score in expected]
    assert [key for key, _ in ranked(hybrid, tmp_path, 2)] == ["a", "c"]


def test_the_constant_weighs_the_first_ranks(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c", "d", "e")), Fixed(ids=("x", "y", "e")))
    assert ranked(Hybrid(of=both, k=60), tmp_path, 1)[0][0] == "e"
    assert ranked(Hybrid(of=both, k=1), tmp_path, 1)[0][0] == "x"


def test_equal_scores_are_in_descending_order_of_id(tmp_path: Path) -> None:
    hybrid = Hybrid(of=(Fixed(ids=("a", "b")), Fixed(ids=("b", "a"))))
    assert [key for key, _ in ranked(hybrid, tmp_path, 2)] == ["b", "a"]


def test_ranks_beyond_the_depth_do_not_count(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c")), Fixed(ids=("c", "a", "b")))
    assert [key for key, _ in ranked(Hybrid(of=both, depth=1), tmp_path, 1)] == ["c"]
    assert {key for key, _ in ranked(Hybrid(of=both, depth=1), tmp_path, 10)} == {"a", "c"}


def test_what_is_asked_for_does_not_change_the_order(tmp_path: Path) -> None:
    both = (Fixed(ids=("a", "b", "c", "d")), Fixed(ids=("d", "c", "x", "y")))
    hybrid = Hybrid(of=both, depth=2)
    assert ranked(hybrid, tmp_path, 2) == ranked(hybrid, tmp_path, 3)[:2] == ranked(hybrid, tmp_path, 9)[:2]


def test_every_member_is_built_with_the_same_cache(tmp_path: Path) -> None:
    ranked(Hybrid(of=(Fixed(ids=("a", "b")), Fixed(ids=("c",)))), tmp_path / "cache", 1)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"a-b", "c"}


def test_members_are_read_by_name_and_two_are_needed() -> None:
    hybrid = Retriever.read({"kind": "hybrid", "of": ["bm25", {"kind": "bm25", "k1": 2}]})
    assert [member.kind for member in hybrid.of] == ["bm25", "bm25"]
    with pytest.raises(ValidationError, match="at least 2"):
        Retriever.read({"kind": "hybrid", "of": ["bm25"]})
