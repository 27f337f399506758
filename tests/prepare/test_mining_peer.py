"""The rules that sentence-transformers' `mine_hard_negatives` has too keep the same passages as there."""

import sys
from collections import Counter
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.models.topk import top_k
from burnish.prepare.mining import Rules
from burnish.prepare.negatives import mine
from burnish.records import Chunk, Question
from burnish.retrievers import Hit

QUERIES, PASSAGES, WIDTH = 12, 40, 5
COUNT = 6


class Table(dict[str, list[Any]]):
    """As much of a `datasets.Dataset` as the miner touches."""

    @property
    def column_names(self) -> list[str]:
        return [*self]

    def __len__(self) -> int:
        return len(next(iter(self.values())))

    def to_pandas(self) -> Any:
        counted = {"positive": dict(Counter(self["anchor"]))}
        return SimpleNamespace(
            groupby=lambda _: SimpleNamespace(count=lambda: SimpleNamespace(to_dict=lambda: counted))
        )

    from_dict = classmethod(lambda cls, data: cls(data))


class Model:
    """As much of a SentenceTransformer: texts are places in a matrix."""

    device = torch.device("cpu")

    def __init__(self, queries: Tensor, passages: Tensor) -> None:
        self.queries, self.passages = queries, passages

    def encode_query(self, texts: Sequence[str], **_: Any) -> Any:
        return self.queries[[int(text.split()[-1]) for text in texts]].numpy()

    def encode_document(self, texts: Sequence[str], **_: Any) -> Any:
        return self.passages[[int(text.split()[-1]) for text in texts]].numpy()

    def similarity(self, one: Any, other: Any) -> Tensor:
        return torch.as_tensor(one) @ torch.as_tensor(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> Tensor:
        return (torch.as_tensor(one) * torch.as_tensor(other)).sum(dim=1)


class Searcher:
    """Exact search in the same vectors."""

    notes: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, model: Model) -> None:
        self.model = model

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        scores, rows = top_k(torch.as_tensor(self.model.encode_query(questions)), self.model.passages, k)
        pairs = (zip(*line, strict=True) for line in zip(scores.tolist(), rows.tolist(), strict=True))
        return [[Hit(f"p{row}", score) for score, row in line] for line in pairs]


@pytest.fixture
def made() -> tuple[Model, list[tuple[int, ...]]]:
    """Return vectors, with negative scores among them, and each query's right passages."""
    draw = torch.Generator().manual_seed(7)
    passages = torch.nn.functional.normalize(torch.randn(PASSAGES, WIDTH, generator=draw), dim=1)
    gold = [(query, query + 20) if query % 3 == 0 else (query,) for query in range(QUERIES)]
    nearby = torch.stack([passages[query] for query in range(QUERIES)])
    queries = torch.nn.functional.normalize(nearby + 0.6 * torch.randn(QUERIES, WIDTH, generator=draw), dim=1)
    return Model(queries, passages), gold


def theirs(
    monkeypatch: pytest.MonkeyPatch, model: Model, gold: list[tuple[int, ...]], **rules: Any
) -> dict[str, set[str]]:
    """Return what sentence-transformers keeps for each query."""
    miner = pytest.importorskip("sentence_transformers.util.hard_negatives")
    module = ModuleType("datasets")
    module.Dataset = Table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setattr(miner, "is_datasets_available", lambda: True)
    pairs = [(f"query {query}", f"passage {place}") for query, places in enumerate(gold) for place in places]
    table = Table(anchor=[query for query, _ in pairs], positive=[passage for _, passage in pairs])
    options = {"range_max": PASSAGES, "num_negatives": COUNT, "verbose": False, "output_format": "triplet"}
    corpus = [f"passage {place}" for place in range(PASSAGES)]
    done = miner.mine_hard_negatives(table, model, corpus=corpus, **{**options, **rules})
    kept: dict[str, set[str]] = {f"query {query}": set() for query in range(QUERIES)}
    for query, passage in zip(done["anchor"], done["negative"], strict=True):
        kept[query].add(passage)
    return kept


def ours(model: Model, gold: list[tuple[int, ...]], **rules: Any) -> dict[str, set[str]]:
    """Return what burnish keeps for each query."""
    questions = [
        Question(id=f"query {query}", question=f"query {query}", gold=tuple(f"p{place}" for place in places))
        for query, places in enumerate(gold)
    ]
    chunks = [Chunk(id=f"p{place}", text=f"passage {place}") for place in range(PASSAGES)]
    settings = {"per_question": COUNT, "depth": PASSAGES, "ceiling": None, "copies": None, **rules}
    mined = mine(questions, chunks, [Searcher(model)], Rules(**settings))
    return {key: {f"passage {name[1:]}" for name in kept} for key, kept in mined.negatives.items()}


@pytest.mark.parametrize(
    ("our_rules", "their_rules"),
    [
        ({}, {}),
        ({"skip": 3}, {"range_min": 3}),
        ({"absolute_margin": 0.3}, {"absolute_margin": 0.3}),
        ({"relative_margin": 0.4}, {"relative_margin": 0.4}),
        ({"ceiling": 0.6}, {"relative_margin": 0.4}),
        ({"ceiling": 0.95, "absolute_margin": 0.2}, {"relative_margin": 0.05, "absolute_margin": 0.2}),
        ({"depth": 9}, {"range_max": 9}),
    ],
)
def test_the_same_rules_keep_the_same_passages(
    monkeypatch: pytest.MonkeyPatch,
    made: tuple[Model, list[tuple[int, ...]]],
    our_rules: dict[str, Any],
    their_rules: dict[str, Any],
) -> None:
    wanted = theirs(monkeypatch, *made, **their_rules)
    kept = ours(*made, **our_rules)
    assert any(wanted.values())
    if our_rules.get("depth"):  # theirs looks at so many hits beside the right passages, ours at so many in all
        assert all(kept[key] <= wanted[key] for key in kept)
        assert kept != {key: set() for key in kept}
    else:
        assert kept == wanted
