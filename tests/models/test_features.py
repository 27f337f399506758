from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

import tiny
from burnish.models import features as module
from burnish.models.features import features

TEXTS = ["one two three", "the cat", "one two three", "red " * 200]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(*_: object) -> None:
    """Show nothing."""


def test_vectors_are_the_means_of_the_last_hidden_states_of_unit_length(tmp_path: Path):
    name = str(tiny.tiny_bert(tmp_path / "bert"))
    model, tokenizer = AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    with torch.no_grad():
        rows = [tokenizer(text, truncation=True, max_length=128, return_tensors="pt") for text in TEXTS]
        means = torch.stack([model(**row).last_hidden_state[0].mean(dim=0) for row in rows])
    torch.testing.assert_close(
        features(name, TEXTS, progress=silent), functional.normalize(means), rtol=0.05, atol=0.01
    )


def test_vectors_are_made_once_for_a_model_and_its_texts(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    name = str(tiny.tiny_bert(tmp_path / "bert"))
    first = features(name, TEXTS, progress=silent)
    features(name, TEXTS[:2], progress=silent)
    assert len(list((cache / "features").iterdir())) == 2
    monkeypatch.setattr(module.Encoder, "encode", lambda *_, **__: pytest.fail("the vectors were made again"))
    assert torch.equal(features(name, TEXTS, progress=silent), first)
