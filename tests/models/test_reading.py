from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

import tiny
from burnish.errors import ModelError
from burnish.models.load import load_causal, load_masked, load_seq2seq
from burnish.models.reading import SENTINEL, kind_of, reading_of

SENTINELS = [SENTINEL.format(number) for number in range(4)]
FP32 = torch.float32


def capped(folder: Path) -> Path:
    """Write a model that caps its scores behind the head."""
    tiny.tiny_llama(folder)  # for its tokenizer
    config = Gemma2Config(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=128,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_decoder_reads_from_left_to_right(tmp_path: Path):
    folder = tiny.tiny_llama(tmp_path)
    network, tokenizer = load_causal(str(folder), dtype=FP32)
    reading = reading_of(network, tokenizer, 64)
    assert kind_of(str(folder)) == reading.kind == "causal"
    assert (reading.prefix, reading.end, reading.apart) == ((), tokenizer.eos_token_id, True)


def test_a_decoder_that_caps_its_scores_is_not_called_in_parts(tmp_path: Path):
    network, tokenizer = load_causal(str(capped(tmp_path)), dtype=FP32)
    assert not reading_of(network, tokenizer, 64).apart


def test_an_encoder_guesses_hidden_tokens_and_never_special_ones(tmp_path: Path):
    folder = tiny.tiny_bert(tmp_path, head=True)
    network, tokenizer, _ = load_masked(str(folder), dtype=FP32, seed=0)
    reading = reading_of(network, tokenizer, 64)
    assert kind_of(str(folder)) == reading.kind == "masked"
    assert (reading.prefix, reading.suffix, reading.mask) == ((2,), (3,), 4)
    assert reading.special == {0, 1, 2, 3, 4}
    assert not reading.special & set(reading.words)
    assert len(reading.words) == len(tokenizer) - 5


def test_an_encoder_decoder_writes_what_was_left_out(tmp_path: Path):
    folder = tiny.tiny_t5(tmp_path, words=[*tiny.WORDS, *SENTINELS])
    network, tokenizer = load_seq2seq(str(folder), dtype=FP32)
    reading = reading_of(network, tokenizer, 64)
    assert kind_of(str(folder)) == reading.kind == "spans"
    assert tokenizer.convert_ids_to_tokens(reading.sentinels) == SENTINELS
    assert (reading.end, reading.start) == (1, 0)
    with pytest.raises(
        ModelError, match="a block of 128 tokens needs 6 sentinel tokens, and its tokenizer has 4; lower"
    ):
        reading_of(network, tokenizer, 128)


def test_a_tokenizer_without_what_the_reading_needs_is_refused(tmp_path: Path):
    t5: Any = load_seq2seq(str(tiny.tiny_t5(tmp_path / "t")), dtype=FP32)
    with pytest.raises(ModelError, match=r"its tokenizer has no sentinel tokens \(<extra_id_0>, <extra_id_1> …\)"):
        reading_of(*t5, 64)
    network, tokenizer = load_causal(str(tiny.tiny_llama(tmp_path / "l")), dtype=FP32)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="its tokenizer has no end token, which tells where a document ends"):
        reading_of(network, tokenizer, 64)
    network, tokenizer, _ = load_masked(str(tiny.tiny_bert(tmp_path / "b", head=True)), dtype=FP32, seed=0)
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="its tokenizer has no mask token, which takes the place of a hidden one"):
        reading_of(network, tokenizer, 64)
