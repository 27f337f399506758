import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from burnish import sequences
from burnish.models.encode import Encoder
from burnish.models.token_ids import TokenRows
from burnish.prepare import stored_pairs
from burnish.prepare.pair_items import Ids, PairItem, passages_of
from burnish.prepare.stored_pairs import PairItems
from burnish.records import Pair
from burnish.text import normal
from tiny import WORDS, sentence, tiny_bert

MOST = 8


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], TokenRows]:
    encoder = Encoder.load(str(tiny_bert(tmp_path_factory.mktemp("m") / "bert")), dtype=torch.float32)
    return lambda texts: encoder.tokenize(texts, max_tokens=MOST)[0]


def rows(count: int, *, seed: int = 0, scores: bool = False) -> list[Pair]:
    """Return rows of few words: queries and passages come again, read alike, are cut and repeat each other."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        passages = [sentence(draw, draw.choice([1, 1, 2, 9])) for _ in range(draw.randint(1, 6))]
        passages += (
            draw.choices(passages, k=draw.choice([0, 0, 1])) + ["unheard of", "never heard"][: draw.randint(0, 2)]
        )
        right = draw.randint(1, len(passages))
        found.append(
            Pair(
                id=f"row {number}",
                query=draw.choice([WORDS[number % 3], WORDS[number % 3].upper(), sentence(draw, 9), passages[0]]),
                positives=tuple(passages[:right]),
                negatives=tuple(passages[right:]),
                scores=tuple(draw.random() for _ in passages) if scores and number % 2 else (),
            )
        )
    return found


def by_the_book(
    rows: Sequence[Pair],
    read: Callable[[Sequence[str]], TokenRows],
    *,
    compared: Callable[[Sequence[int]], bool] = lambda _ids: True,
    repeated: bool = False,
) -> tuple[list[PairItem], dict[str, int]]:
    """Tokenize everything at once, and look for what answers a query in all of the rows."""
    texts, queries = passages_of(rows), read([row.query for row in rows])
    tokens = read(texts)
    ids = {text: tuple(found) for text, found in zip(texts, tokens, strict=True) if compared(found)}
    answers: dict[Ids, dict[Ids, None]] = {}
    for row, query in zip(rows, queries, strict=True):
        right = answers.setdefault(tuple(query), {})
        right |= dict.fromkeys(ids[text] for text in row.positives if text in ids)
        if repeated:
            right |= dict.fromkeys(found for text, found in ids.items() if normal(text) == normal(row.query))
    items, answered = [], 0
    for row, query in zip(rows, queries, strict=True):
        never_wrong = answers[tuple(query)]
        positives = tuple(dict.fromkeys(ids[text] for text in row.positives if text in ids))
        negatives = dict.fromkeys(ids[text] for text in row.negatives if text in ids)
        kept = tuple(text for text in negatives if text not in never_wrong)
        said = [*zip((*row.positives, *row.negatives), row.scores, strict=False)]
        scores = {ids[text]: score for text, score in reversed(said) if text in ids}
        known = tuple(text for text in never_wrong if text not in positives)
        if positives:
            answered += sum(ids.get(text) in known for text in row.negatives)
            items.append(
                PairItem(
                    id=row.id,
                    tokens=len(query) + sum(map(len, positives + kept)),
                    query=tuple(query),
                    positives=positives,
                    negatives=kept,
                    known=known,
                    scores=tuple(scores[text] for text in positives + kept) if scores else (),
                )
            )
    counts = {"queries": sum(queries.cut), "passages": sum(tokens.cut), "answered": answered}
    return items, {**counts, "bare": len(rows) - len(items)}


def counted(items: PairItems) -> dict[str, int]:
    return {
        "queries": items.cut_queries,
        "passages": items.cut_passages,
        "answered": items.answered,
        "bare": items.bare,
    }


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize(("in_memory", "at_once", "memo"), [(1 << 24, 4096, 1 << 18), (0, 1, 0), (64, 7, 5)])
def test_stored_rows_are_those_that_memory_would_hold(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    read: Callable[[Sequence[str]], TokenRows],
    repeated: bool,
    scores: bool,
    in_memory: int,
    at_once: int,
    memo: int,
) -> None:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    monkeypatch.setattr(sequences, "IN_MEMORY", in_memory)
    monkeypatch.setattr(stored_pairs, "ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(stored_pairs, "MEMO", memo)
    for seed in range(4):
        found = rows(40, seed=seed, scores=scores)
        expected, counts = by_the_book(found, read, repeated=repeated)
        items = PairItems(found, queries=read, passages=read, repeated=repeated)
        assert [*items] == expected
        assert [*items.tokens] == [item.tokens for item in expected]
        assert counted(items) == counts
        assert [items[place] for place in (31, 2, 2, 17)] == [expected[place] for place in (31, 2, 2, 17)]


def test_passages_without_a_token_that_counts_are_left_out(read: Callable[[Sequence[str]], TokenRows]) -> None:
    found = rows(60, scores=True)

    def compared(ids: Sequence[int]) -> bool:
        return sum(ids) % 3 > 0

    expected, counts = by_the_book(found, read, compared=compared)
    items = PairItems(found, queries=read, passages=read, compared=compared)
    assert [*items] == expected
    assert counted(items) == counts
    assert counts["bare"]


def test_no_rows_are_no_items(read: Callable[[Sequence[str]], TokenRows]) -> None:
    assert [*PairItems([], queries=read, passages=read, repeated=True)] == []
