from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import tiny
from burnish.errors import DataError, ModelError
from burnish.evaluation import bertscore as module
from burnish.evaluation.bertscore import bertscore
from burnish.metrics.bertscore import Bertscore

SAID = ["red cat and dog", "one two three", "fish", "red"]
RIGHT = [["red dog", "a blue cat"], ["three two one four"], ["bird fish fish"], ["red"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.tiny_bert(tmp_path_factory.mktemp("bert"))


def brute_force(
    folder: Path, said: str, right: str, *, layer: int, idf: dict[int, float]
) -> tuple[float, float, float]:
    """Return precision, recall and F, one text at a time, as the formula says it."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def seen(text: str):
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
        return ids[1:-1], [row / row.norm() for row in states[1:-1]]

    def covered(ids, rows, others) -> float:
        weights = [idf.get(token, 1.0) for token in ids]
        best = [max(float(row @ other) for other in others) for row in rows]
        return sum(w * b for w, b in zip(weights, best, strict=True)) / sum(weights)

    (said_ids, said_rows), (right_ids, right_rows) = seen(said), seen(right)
    precision, recall = covered(said_ids, said_rows, right_rows), covered(right_ids, right_rows, said_rows)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [None, 0, 1])
@pytest.mark.parametrize(("part", "place"), [("precision", 0), ("recall", 1), ("f1", 2)])
def test_it_equals_a_brute_force_text_by_text(folder, layer, part, place):
    found = bertscore(Bertscore(model=str(folder), layer=layer, part=part), SAID, RIGHT)
    expected = [
        max(brute_force(folder, said, right, layer=-1 if layer is None else layer, idf={})[place] for right in rights)
        for said, rights in zip(SAID, RIGHT, strict=True)
    ]
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.scores[-1] == pytest.approx(1)
    assert found.cut == 0


def test_idf_weighs_each_token_by_how_few_references_hold_it(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text for rights in RIGHT for text in rights]
    holding = [set(tokenizer(text)["input_ids"]) for text in texts]
    idf = {token: log((len(texts) + 1) / (sum(token in ids for ids in holding) + 1)) for token in range(len(tokenizer))}
    found = bertscore(Bertscore(model=str(folder), idf=True), SAID, RIGHT)
    expected = [
        max(brute_force(folder, said, right, layer=-1, idf=idf)[2] for right in rights)
        for said, rights in zip(SAID, RIGHT, strict=True)
    ]
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert found.scores[0] != pytest.approx(bertscore(Bertscore(model=str(folder)), SAID, RIGHT).scores[0], abs=1e-4)


def test_blocks_change_nothing_and_order_is_kept(folder, monkeypatch):
    metric = Bertscore(model=str(folder))
    whole = bertscore(metric, SAID, RIGHT).scores
    monkeypatch.setattr(module, "BLOCK", 2)
    assert bertscore(metric, SAID, RIGHT).scores == pytest.approx(whole, abs=1e-6)
    assert bertscore(metric, SAID[::-1], RIGHT[::-1]).scores == pytest.approx(whole[::-1], abs=1e-6)


def test_texts_without_tokens_match_only_each_other_and_no_texts_give_no_scores(folder):
    metric = Bertscore(model=str(folder))
    assert bertscore(metric, ["", "cat", ""], [["cat"], [""], [""]]).scores == [0.0, 0.0, 1.0]
    assert bertscore(metric, [], []).scores == []


def test_texts_longer_than_the_encoder_reads_are_counted(folder):
    found = bertscore(Bertscore(model=str(folder)), ["cat " * 200, "dog"], [["cat"], ["dog " * 300]])
    assert found.cut == 2
    assert np.isfinite(found.scores).all()


def test_a_layer_that_the_encoder_does_not_have_is_refused(folder):
    with pytest.raises(ModelError, match=r"layer 3 is asked for; there are 0 \(the embeddings\) to 2"):
        bertscore(Bertscore(model=str(folder), layer=3), ["cat"], [["cat"]])


def test_idf_that_leaves_a_reference_without_weight_is_refused(folder):
    with pytest.raises(DataError, match="idf leaves the reference 'cat' without weight: each of its tokens stands in"):
        bertscore(Bertscore(model=str(folder), idf=True), ["dog"], [["cat"]])


def test_a_prediction_that_only_says_what_every_reference_says_scores_nothing_by_idf(folder):
    found = bertscore(Bertscore(model=str(folder), idf=True), ["the", "the cat"], [["the cat"], ["the dog"]])
    assert found.scores[0] == 0
    assert found.scores[1] > 0


def test_an_example_without_a_reference_is_named_by_its_place(folder):
    with pytest.raises(DataError, match="question 1 of 1: it has no right answer to compare with"):
        bertscore(Bertscore(model=str(folder)), ["cat"], [[]])
