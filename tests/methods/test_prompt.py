from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

import tiny
from burnish.errors import ModelError
from burnish.methods.prompt import Prompt
from burnish.models.encode import Encoder
from burnish.models.load import load_causal
from burnish.models.quiet import quiet
from burnish.tasks.generate import Generate
from burnish.train.weights import Weights

TEXT = "answer the question in one word"
METHOD = Prompt(length=6, text=TEXT)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


def text_ids(base: Path, rows: int) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(base)(TEXT, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.shape == (1, 6)
    return ids.expand(rows, -1)


@torch.no_grad()
def test_a_decoder_starts_as_itself_with_the_text_before_its_input(base: Path):
    ids = torch.arange(5, 25).view(2, 10)
    plain, _ = load_causal(str(base), dtype=torch.float32)
    expected = plain(input_ids=torch.cat([text_ids(base, 2), ids], dim=1)).logits
    found = METHOD.apply(load_causal(str(base), dtype=torch.float32)[0])(input_ids=ids).logits
    assert torch.equal(found, expected)


@torch.no_grad()
def test_an_encoder_decoder_starts_as_itself_with_the_text_before_its_input(tmp_path: Path):
    folder = tiny.tiny_t5(tmp_path)
    ids, written = torch.arange(5, 25).view(2, 10), torch.tensor([[0, 7, 8], [0, 9, 10]])
    with quiet():
        plain, other = (AutoModelForSeq2SeqLM.from_pretrained(folder) for _ in range(2))
    expected = plain(input_ids=torch.cat([text_ids(folder, 2), ids], dim=1), decoder_input_ids=written).logits
    found = METHOD.apply(other)(input_ids=ids, decoder_input_ids=written).logits
    assert torch.equal(found, expected)


def test_it_can_start_from_tokens_of_the_vocabulary(base: Path):
    network, _ = load_causal(str(base), dtype=torch.float32)
    model: Any = Prompt(length=6, init="vocabulary").apply(network)
    rows = model.prompt_encoder["default"].embedding.weight.detach()
    table = network.get_input_embeddings().weight.detach()
    assert rows.shape == (6, 32)
    assert all((row == table).all(dim=1).any() for row in rows)


@pytest.mark.parametrize("rows", [tiny.completions(6), tiny.completions(1)])  # padded, and not
def test_the_loss_is_that_of_the_whole_model(rows: Any, base: Path):
    task = Generate()
    parts = task.build(str(base))
    model: Any = METHOD.apply(parts.model)
    batch = task.collate(task.encode(rows, parts).items)
    expected = torch.zeros(())
    for item in task.encode(rows, parts).items:
        ids = torch.tensor([[*item.prompt, *item.completion]])
        logits = model(input_ids=ids).logits[0, 6 + len(item.prompt) - 1 : -1]
        expected += functional.cross_entropy(logits, torch.tensor(item.completion), reduction="sum")
    torch.testing.assert_close(task.total_loss(model, batch), expected)


def test_it_trains_in_bf16(base: Path):
    task = Generate()
    parts = task.build(str(base))
    model = METHOD.apply(parts.model)
    batch = task.collate(task.encode(tiny.completions(6), parts).items)
    exact = task.total_loss(model, batch).item()
    weights = Weights(model, torch.bfloat16)
    loss = task.total_loss(model, batch)
    loss.backward()
    weights.collect()
    assert loss.item() == pytest.approx(exact, rel=0.02)
    assert all(gradient.any() for gradient in weights.gradients())


def test_what_reads_vectors_of_whole_texts_is_refused(tmp_path: Path):
    encoder = Encoder.load(str(tiny.tiny_bert(tmp_path)), dtype=torch.float32)
    for model in (encoder, encoder.transformer):
        said = f"an encoder-decoder or a classifier, and {type(model).__name__} is none of them. Use lora or full"
        with pytest.raises(ModelError, match=said):
            Prompt().apply(model)


def test_a_classifier_that_looks_for_the_last_token_is_refused():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    network = LlamaForSequenceClassification(LlamaConfig(vocab_size=20, **sizes))
    with pytest.raises(
        ModelError, match="LlamaForSequenceClassification looks for the end of the text in its token ids"
    ):
        Prompt().apply(network, fresh=("score.",))
    network = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    with pytest.raises(ModelError, match="method prompt starts from a text, and this model has no tokenizer"):
        Prompt().apply(network, fresh=("classifier.",))
    assert Prompt(init="vocabulary").apply(network, fresh=("classifier.",)) is not None


def test_a_text_without_a_token_is_refused(base: Path):
    with pytest.raises(ModelError, match="makes no token of the text ' '"):
        Prompt(text=" ").apply(load_causal(str(base), dtype=torch.float32)[0])
