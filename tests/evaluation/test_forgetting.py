"""What training cost a model, on general texts: numbers against their formulas, at tiny size."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from burnish.errors import DataError
from burnish.evaluation.forgetting import forgetting, neighbour_overlap, require_general, sentence
from burnish.records import Document
from burnish.tasks import Built, Task
from burnish.tasks.classify import Classify
from burnish.tasks.generate import Generate
from burnish.tasks.pretrain import Pretrain
from burnish.tasks.regress import Regress
from burnish.tasks.retrieve import Retrieve

TEXTS = ("one two three", "the cat and the dog", "red green blue red", "open the file", "first or last", "yes", "no no")
ROWS = [Document(id=f"d{place}", text=text) for place, text in enumerate(TEXTS)]


def silent(*_: object) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_llama(tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


def shaken(task: Task, base: str, folder: Path, *, by: float = 0.05) -> str:
    """Write the base with every weight moved a little, and return its name."""
    built = task.build(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in built.model.parameters():
            weight.add_(by * torch.randn_like(weight))
    task.save(built.model, built, folder)
    return str(folder)


def found(task: Task, base: str, trained: str, rows: list[Document] = ROWS) -> tuple[dict[str, Any], list[Any]]:
    return forgetting(task, base, trained, rows, seed=0, progress=silent)


def likelihoods(name: str) -> tuple[float, int]:
    """Return nats and tokens of all texts, each token after the first told, the end among them."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    nats, tokens = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        nats += functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
    return nats, tokens


def test_a_writers_perplexity_is_that_of_all_tokens_and_its_change_their_ratio(llama: str, tmp_path: Path):
    trained = shaken(Generate(), llama, tmp_path)
    scores, lines = found(Generate(), llama, trained)
    (was, tokens), (now, _) = likelihoods(llama), likelihoods(trained)
    assert scores["tokens"] == tokens
    assert scores["before"]["value"] == pytest.approx(math.exp(was / tokens), rel=0.02)
    assert scores["after"]["value"] == pytest.approx(math.exp(now / tokens), rel=0.02)
    change, before = scores["change"], scores["before"]["value"]
    assert change["value"] == pytest.approx(scores["after"]["value"] / before - 1, rel=1e-6)
    assert scores["difference"]["difference"] == pytest.approx(scores["after"]["value"] - before, rel=1e-6)
    for bounded in (change, scores["before"], scores["after"]):
        assert bounded["low"] < bounded["value"] < bounded["high"]
    assert [line["id"] for line in lines] == [row.id for row in ROWS]
    assert sum(line["after"][1] for line in lines) == tokens
    assert (scores["reads"], scores["n"], scores["left_out"]) == ("causal", len(ROWS), 0)


def test_the_sentence_tells_both_perplexities_and_the_change_with_its_bounds():
    scores = {
        "measure": "perplexity",
        "reads": "causal",
        "before": {"value": 12.1},
        "after": {"value": 13.0},
        "change": {"value": 0.0744, "low": 0.05, "high": 0.092},
    }
    assert sentence(scores) == "perplexity of general text: 12.1 → 13 (+7.4 % [5.0, 9.2])"
    assert sentence({**scores, "reads": "masked"}).startswith("perplexity of general text, of its hidden tokens: ")


def test_a_model_that_did_not_move_has_lost_nothing(llama: str, bert: str):
    scores, _ = found(Generate(), llama, llama)
    assert scores["change"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": len(ROWS)}
    scores, _ = found(Classify(labels=("a", "b")), bert, bert)
    assert scores["scores"]["cosine"]["value"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["masked", "spans"])
def test_encoders_and_encoder_decoders_that_read_on_are_scored_by_what_is_hidden(kind: str, tmp_path: Path):
    base = tiny.tiny_bert(tmp_path / "base", head=True)
    if kind == "spans":
        base = tiny.tiny_t5(tmp_path / "t5", words=[*tiny.WORDS, *(f"<extra_id_{place}>" for place in range(40))])
    scores, _ = found(
        Pretrain(block_tokens=16), str(base), shaken(Pretrain(block_tokens=16), str(base), tmp_path / "m")
    )
    assert scores["reads"] == kind
    assert scores["change"]["value"] != 0


def test_documents_are_read_whole_in_pieces(llama: str, tmp_path: Path):
    long = [Document(id="long", text=" ".join(TEXTS * 20)), Document(id="short", text="one two")]
    scores, lines = found(Generate(), llama, shaken(Generate(), llama, tmp_path), long)
    assert scores["block_tokens"] == 128
    assert [line["before"][1] for line in lines] == [
        len(AutoTokenizer.from_pretrained(llama)(row.text)["input_ids"]) for row in long
    ]


def test_blank_documents_are_left_out_and_counted(llama: str, tmp_path: Path):
    scores, _ = found(Generate(), llama, shaken(Generate(), llama, tmp_path), [*ROWS, Document(id="blank", text="  ")])
    assert (scores["n"], scores["left_out"]) == (len(ROWS), 1)


@pytest.mark.parametrize("task", [Classify(labels=("a", "b")), Regress()], ids=["classify", "regress"])
def test_an_encoder_with_a_new_head_is_held_against_the_hidden_states_of_its_base(
    task: Task, bert: str, tmp_path: Path
):
    trained = shaken(task, bert, tmp_path)
    scores, lines = found(task, bert, trained)

    def means(built: Built) -> Tensor:
        network: Any = built.model
        rows = [built.tokenizer(text, return_tensors="pt") for text in TEXTS]
        with torch.no_grad():
            states = [network.base_model(**row).last_hidden_state[0].mean(dim=0) for row in rows]
        return torch.stack(states)

    cosines = functional.cosine_similarity(means(task.build(bert)), means(task.build(trained)))
    assert [line["cosine"] for line in lines] == pytest.approx(cosines.tolist(), abs=0.01)
    cosine = scores["scores"]["cosine"]
    assert cosine["value"] == pytest.approx(cosines.mean().item(), abs=0.01)
    assert cosine["low"] < cosine["value"] < cosine["high"] <= 1
    assert sentence(scores).startswith(f"general text: mean cosine of {cosine['value']:.3f} [")


def test_a_retriever_is_also_told_how_many_neighbours_stay(bert: str, tmp_path: Path):
    rows = [Document(id=str(n), text=row.positives[0]) for n, row in enumerate(tiny.pairs(40))]
    scores, lines = found(Retrieve(), bert, shaken(Retrieve(), bert, tmp_path), rows)
    assert 0 < scores["scores"]["overlap@10"]["value"] < 1
    assert set(lines[0]) == {"id", "cosine", "overlap@10"}
    assert "of 10 nearest documents" in sentence(scores)


def test_neighbours_are_counted_as_by_hand():
    torch.manual_seed(0)
    before, after = (functional.normalize(torch.randn(2, 30, 6), dim=-1)).unbind()
    expected = []
    for own in range(30):
        others = [place for place in range(30) if place != own]
        near = [set(sorted(others, key=lambda p: -float(v[own] @ v[p]))[:10]) for v in (before, after)]
        expected.append(len(near[0] & near[1]) / 10)
    assert neighbour_overlap(before, after) == pytest.approx(expected)
    assert neighbour_overlap(before, before) == [1.0] * 30
    assert neighbour_overlap(before[:1], after[:1]) == [0.0]


def test_texts_that_give_no_interval_are_refused_before_training(llama: str):
    built = Generate().build(llama)
    message = (
        r"data\.general: 3 documents, 1 of them different and not empty, in 1 groups; an interval needs at least 2"
    )
    with pytest.raises(DataError, match=message):
        require_general(
            Generate(), built, [ROWS[0], ROWS[0].model_copy(update={"id": "again"}), Document(id="x", text=" ")]
        )
    together = [row.model_copy(update={"group": "same"}) for row in ROWS]
    with pytest.raises(DataError, match=r"7 documents, 7 of them different and not empty, in 1 groups"):
        require_general(Generate(), built, together)
    require_general(Generate(), built, ROWS)
