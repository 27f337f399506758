from pathlib import Path

import torch

import tiny
from burnish.models.load import load_causal
from burnish.models.padding import longest_input, network_inputs, pad_right


def test_rows_are_padded_on_the_right():
    ids, mask = pad_right([(5, 6, 7), (8,)])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_the_network_gets_its_own_padding_token_and_types_where_there_are_some(tmp_path: Path):
    network, tokenizer = load_causal(str(tiny.tiny_llama(tmp_path)), dtype=torch.float32)
    network.config.pad_token_id = 9
    ids, mask = pad_right([(5, 6, 7), (8,)])
    found = network_inputs(network, ids, mask)
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert torch.equal(found["attention_mask"], mask)
    assert set(found) == {"input_ids", "attention_mask"}
    assert torch.equal(network_inputs(network, ids, mask, mask)["token_type_ids"], mask)
    assert longest_input(network, tokenizer) == 128
    tokenizer.model_max_length = 100
    assert longest_input(network, tokenizer) == 100
