from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

import tiny
from burnish.errors import ModelError
from burnish.models.fill import Filler, load_filler
from burnish.prepare.augment import fill_masks
from burnish.records import Labelled

TEXTS = ["the cat [MASK] a [MASK] fish", "[MASK]!", "no mask at all", "sort the list of ten [MASK] , one two three"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_bert(tmp_path_factory.mktemp("bert"), head=True, words=[*tiny.WORDS, "##ing", "!", ","])


def likeliest(folder: Path, text: str) -> list[str]:
    """Return the likeliest word at each mask, found with the library alone."""
    model: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0]
    plain = {token: number for token, number in tokenizer.get_vocab().items() if token.isalnum()}
    return [
        max(plain, key=lambda token: float(logits[place, plain[token]]))
        for place in (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
    ]


def test_the_only_choice_is_the_likeliest_word(folder):
    filled = load_filler(str(folder), choices=1)(TEXTS)
    for text, found in zip(TEXTS, filled, strict=True):
        wanted = text
        for word in likeliest(folder, text):
            wanted = wanted.replace("[MASK]", word, 1)
        assert found == wanted


def test_the_same_seed_fills_alike_in_whatever_company(folder):
    fill = load_filler(str(folder), seed=3)
    together = fill(TEXTS)
    assert [fill([text])[0] for text in TEXTS] == together == load_filler(str(folder), seed=3)(TEXTS)
    assert together != load_filler(str(folder), seed=4)(TEXTS)
    assert fill([]) == []


def test_what_the_model_cannot_read_stays_masked(folder):
    long = "cat " * 200 + "[MASK]"
    assert load_filler(str(folder))([long]) == [long]


def test_rows_are_augmented_with_a_masked_model(folder):
    rows = [Labelled(id=str(place), text=tiny.sentence(tiny.random.Random(place), 12), label="x") for place in range(8)]
    made = fill_masks(rows, load_filler(str(folder)), seed=0, copies=2)
    assert len(made.rows) + sum(made.dropped.values()) == 16
    assert len(made.rows) > 8
    assert all("[MASK]" not in row.text for row in made.rows)


def words_of(tokenizer: Tokenizer, **signs: str) -> set[str]:
    """Return which tokens of a tokenizer are words by themselves."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **signs)
    network = AutoModelForMaskedLM.from_config(tiny.BertConfig(num_hidden_layers=1, hidden_size=12, vocab_size=9))
    filler = Filler(network, fast, seed=0, choices=1)
    return {filler._word(token) for token in range(len(fast))} - {""}


def test_pieces_of_words_and_signs_are_no_words():
    pieces = WordPiece({"[UNK]": 0, "[MASK]": 1, "cat": 2, "##s": 3, "s": 4, "!": 5}, unk_token="[UNK]")
    tokenizer = Tokenizer(pieces)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    assert words_of(tokenizer, mask_token="[MASK]", unk_token="[UNK]") == {"cat", "s"}


def test_pieces_of_a_byte_level_vocabulary_are_no_words():
    vocabulary = {
        token: number for number, token in enumerate(["<mask>", "c", "a", "t", "Ġ", "ca", "cat", "Ġcat", "!"])
    }
    tokenizer = Tokenizer(BPE(vocabulary, [("c", "a"), ("ca", "t"), ("Ġ", "cat")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>")
    network = AutoModelForMaskedLM.from_config(tiny.BertConfig(num_hidden_layers=1, hidden_size=12, vocab_size=9))
    filler = Filler(network, fast, seed=0, choices=1)
    assert [filler._word(token) for token in range(9)] == ["", "", "", "", "", "", "", "cat", ""]


def test_a_model_that_cannot_fill_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no trained head for masked words"):
        load_filler(str(tiny.tiny_bert(tmp_path / "encoder")))
    with pytest.raises(ModelError, match="no sign for a masked word"):
        load_filler(str(tiny.tiny_llama(tmp_path / "llama")))
    with pytest.raises(ModelError, match="there is no such model folder"):
        load_filler(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="choices must be at least 1"):
        load_filler("any", choices=0)
