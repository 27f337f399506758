from pathlib import Path

import pytest
import torch

from burnish.models import token_store
from burnish.models.late import PUNCTUATION, LateEncoder
from burnish.models.late_folder import LateFormat
from burnish.models.maxsim import EMPTY, Packed, maxsim
from burnish.models.token_store import TokenStore
from tiny import WORDS, tiny_llama

TEXTS = [" ".join(WORDS[place : place + 2 + place % 7]) for place in range(20)]


@pytest.fixture
def encoder(tmp_path: Path) -> LateEncoder:
    found = LateEncoder.load(str(tiny_llama(tmp_path / "m", words=[*WORDS, "."])), dtype=torch.float32)
    found.read_by(LateFormat(query_tokens=16, passage_tokens=8, skipped_words=PUNCTUATION))
    return found


def test_what_is_read_is_what_was_encoded_in_half_precision(encoder: LateEncoder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert TokenStore.write(tmp_path, encoder, [*TEXTS, " ".join(WORDS[:20])], progress=lambda *n: seen.append(n)) == 1
    store, direct = TokenStore(tmp_path), encoder.encode_passages([*TEXTS, " ".join(WORDS[:20])])
    assert seen[-1] == (21, 21)
    assert (len(store), store.lengths.tolist()) == (21, direct.lengths.tolist())
    rows = torch.tensor([20, 3, 11])
    found = store.passages(rows)
    for row, text in zip(rows.tolist(), found.texts, strict=True):
        torch.testing.assert_close(text, direct.texts[row], atol=1e-3, rtol=0)
    assert torch.equal(store.tokens(0, 999), store.passages(torch.arange(21)).vectors)


@pytest.mark.parametrize("block", [1, 30, 1 << 16])
def test_scores_are_those_of_all_passages_at_once(
    encoder: LateEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(token_store, "BLOCK", block)
    TokenStore.write(tmp_path, encoder, [*TEXTS[:9], ". .", *TEXTS[9:]], progress=lambda *_: None)
    store, queries = TokenStore(tmp_path), encoder.encode_queries(TEXTS[:5])
    expected = maxsim(queries, Packed(store.tokens(0, 999), store.lengths))
    torch.testing.assert_close(store.scores(queries), expected, atol=1e-5, rtol=0)
    assert store.scores(queries)[:, 9].tolist() == [EMPTY] * 5  # nothing but punctuation, and no special tokens


def test_an_empty_corpus_is_no_error(encoder: LateEncoder, tmp_path: Path) -> None:
    TokenStore.write(tmp_path, encoder, [], progress=lambda *_: None)
    assert len(TokenStore(tmp_path)) == 0
