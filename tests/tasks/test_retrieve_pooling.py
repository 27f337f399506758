"""How a retriever makes one vector of its tokens: as the recipe says, as the model does, and so ever after."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from torch import Tensor

import tiny
from burnish.models.encode import Encoder
from burnish.models.quiet import quiet
from burnish.models.sentence_folder import Pooling
from burnish.tasks import Task
from burnish.tasks.retrieve import Retrieve

TEXTS = ["the cat", "is green and red", "one"]
LENGTHS: dict[str, Any] = {"query_tokens": 16, "passage_tokens": 24}


def made_by(folder: Path, pooling: Pooling | None, *, two_towers: bool = False) -> Any:
    return Retrieve(pooling=pooling, two_towers=two_towers, **LENGTHS).build(str(folder)).model


def by_hand(encoder: Encoder, text: str, pooling: Pooling) -> Tensor:
    [ids], _ = encoder.tokenize([text], max_tokens=16)
    with torch.no_grad():
        hidden = encoder.transformer(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]
    vector = {"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    return vector / vector.norm()


@pytest.mark.parametrize("two_towers", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_chosen_pooling_makes_the_vectors_here_and_in_sentence_transformers(
    pooling: Pooling, two_towers: bool, tmp_path: Path
) -> None:
    model = made_by(tiny.tiny_bert(tmp_path / "bert"), pooling, two_towers=two_towers)
    ours, _ = model.passages.encode(TEXTS, max_tokens=16)
    expected = torch.stack([by_hand(model.passages, text, pooling) for text in TEXTS])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    model.save(tmp_path / "saved")
    with quiet():
        opened = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    asked: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": False}
    for theirs in (opened.encode_query(TEXTS, **asked), opened.encode_document(TEXTS, **asked)):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_a_model_keeps_its_own_pooling_until_a_recipe_says_another(tmp_path: Path) -> None:
    plain = tiny.tiny_bert(tmp_path / "bert")
    assert made_by(plain, None).pooling == "mean"
    made_by(plain, "cls").save(tmp_path / "saved")
    assert made_by(tmp_path / "saved", None).pooling == "cls"
    assert made_by(tmp_path / "saved", "last").pooling == "last"


def test_two_poolings_of_two_towers_stay_apart_where_none_is_said(tmp_path: Path) -> None:
    towers = made_by(tiny.tiny_bert(tmp_path / "bert"), None, two_towers=True)
    towers.queries.pooling = "cls"
    towers.save(tmp_path / "saved")
    again = made_by(tmp_path / "saved", None)
    assert (again.queries.pooling, again.passages.pooling) == ("cls", "mean")


def test_another_pooling_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match="'mean', 'cls' or 'last'"):
        Task.read({"kind": "retrieve", "pooling": "max"})
