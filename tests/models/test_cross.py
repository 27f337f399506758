"""The cross-encoder: equal scores however pairs are put together, cut, saved and read back, here and elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder as Theirs
from torch import nn

import tiny
from burnish.errors import ModelError
from burnish.models.cross import CrossEncoder, pair_scores
from burnish.models.load import load_tokenizer
from burnish.models.quiet import quiet
from learn import typed_bert

PAIRS = [
    ("red cat", "one two three"),
    ("where", " ".join(tiny.WORDS[:20])),
    ("red cat", "one two three"),
    ("a dog", "fish"),
    (" ".join(tiny.WORDS[5:16]), "blue"),
]
LONG = [*PAIRS, ("red cat", "one two " * 40), ("one two " * 40, "red")]


def exact(found: list[float]) -> Any:
    return pytest.approx(found, rel=1e-5, abs=1e-5)


def in_sentence_transformers(folder: Path, pairs: list[tuple[str, str]]) -> list[float]:
    with quiet():
        model = Theirs(str(folder), device="cpu")
    return [float(score) for score in model.predict(pairs, show_progress_bar=False)]


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **settings}))


@pytest.fixture
def cross(tmp_path: Path) -> CrossEncoder:
    return CrossEncoder.load(str(typed_bert(tmp_path / "bert")))


def test_a_score_is_that_of_the_network_on_the_pair_alone(cross: CrossEncoder) -> None:
    found = cross.score(PAIRS)
    with torch.no_grad():
        for pair, score in zip(PAIRS, found, strict=True):
            inputs = cross.tokenizer(*pair, return_tensors="pt")
            assert inputs["token_type_ids"].any()
            logits = cross.network(**inputs).logits
            assert logits.item() == pytest.approx(score, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tokens", [1, 20, 1000])
def test_scores_and_gradients_do_not_depend_on_what_shares_their_pass(cross: CrossEncoder, tokens: int) -> None:
    rows, _ = cross.tokenize(PAIRS)
    found = pair_scores(cross.network, rows, tokens_per_pass=tokens)
    assert found.tolist() == exact(cross.score(PAIRS))
    found.square().sum().backward()
    gradient = cross.network.get_parameter("classifier.weight").grad
    assert gradient is not None
    cross.network.zero_grad()
    pair_scores(cross.network, rows, tokens_per_pass=10_000).square().sum().backward()
    torch.testing.assert_close(cross.network.get_parameter("classifier.weight").grad, gradient, rtol=1e-4, atol=1e-5)


def test_equal_pairs_are_read_once_and_progress_is_told(cross: CrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.models.cross.PAIRS_AT_ONCE", 3)
    told: list[tuple[int, int]] = []
    found = cross.score(PAIRS, progress=lambda *done: told.append(done))
    assert found[0] == found[2]
    assert told[-1] == (4, 4)
    monkeypatch.undo()
    assert found == exact(cross.score(PAIRS))
    assert cross.score([]) == []


def test_dropout_is_off_while_scoring_and_on_again_after(cross: CrossEncoder) -> None:
    cross.network.train()
    assert cross.score(PAIRS) == cross.score(PAIRS)
    assert cross.network.training


def test_long_pairs_are_cut_in_the_longer_text_and_counted(cross: CrossEncoder) -> None:
    cross.max_tokens = 16
    rows, cut = cross.tokenize([*LONG, ("one " * 40, "two " * 40)])
    assert cut == 4  # of LONG, the twenty words are too many as well
    assert [len(row.ids) for row in rows[-3:]] == [16, 16, 16]
    assert cross.tokenizer.decode(rows[5].ids).startswith("[CLS] red cat [SEP] one two")
    assert sum(rows[-1].types) == 8  # seven words and their end
    assert cross.scored(LONG, progress=lambda *_: None)[1] == 3


def test_more_tokens_than_the_model_reads_are_refused(cross: CrossEncoder) -> None:
    cross.max_tokens = 200
    with pytest.raises(ModelError, match="pairs of up to 200 tokens are asked for, and this model reads at most 128"):
        cross.tokenize(PAIRS)


@pytest.mark.parametrize("max_tokens", [128, 20])
def test_the_saved_folder_gives_the_raw_scores_in_sentence_transformers(
    cross: CrossEncoder, tmp_path: Path, max_tokens: int
) -> None:
    cross.max_tokens = max_tokens
    cross.save(tmp_path / "saved")
    ours = cross.score(LONG)
    assert in_sentence_transformers(tmp_path / "saved", LONG) == exact(ours)
    assert not all(0 <= score <= 1 for score in ours)  # no sigmoid on them
    again = CrossEncoder.load(str(tmp_path / "saved"))
    assert again.fresh == ()
    assert again.max_tokens == max_tokens
    assert again.score(LONG) == exact(ours)


def test_versions_that_read_no_modules_find_the_activation_in_the_config(cross: CrossEncoder, tmp_path: Path) -> None:
    cross.save(tmp_path / "saved")
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (tmp_path / "saved" / name).unlink()
    assert in_sentence_transformers(tmp_path / "saved", PAIRS) == exact(cross.score(PAIRS))


@pytest.mark.parametrize("activation", [nn.Identity(), nn.Sigmoid()])
def test_what_sentence_transformers_saves_is_read(cross: CrossEncoder, tmp_path: Path, activation: nn.Module) -> None:
    cross.save(tmp_path / "ours")
    with quiet():
        theirs = Theirs(str(tmp_path / "ours"), device="cpu", activation_fn=activation, max_length=18)
        theirs.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    again = CrossEncoder.load(str(tmp_path / "theirs"))
    assert (again.fresh, again.max_tokens) == ((), 18)
    said = theirs.predict(LONG, show_progress_bar=False, convert_to_tensor=True)
    torch.testing.assert_close(activation(torch.tensor(again.score(LONG))), said, atol=1e-5, rtol=1e-5)


def test_lora_is_merged_into_what_is_saved(cross: CrossEncoder, tmp_path: Path) -> None:
    plain = cross.score(PAIRS)
    with quiet():
        config = LoraConfig(r=2, target_modules="all-linear", modules_to_save=["classifier"], init_lora_weights=False)
        tuned = CrossEncoder(get_peft_model(cross.network, config), cross.tokenizer, max_tokens=64)  # type: ignore[arg-type]
    ours = tuned.score(PAIRS)
    assert ours != exact(plain)
    tuned.save(tmp_path / "saved")
    assert in_sentence_transformers(tmp_path / "saved", PAIRS) == exact(ours)
    assert tuned.score(PAIRS) == ours  # saving changed nothing


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_in_half_precision_scores_are_not_rounded_to_three_digits(tmp_path: Path, kind: str) -> None:
    folder = str({"bert": tiny.tiny_bert, "llama": tiny.tiny_llama}[kind](tmp_path / kind))
    half, whole = (CrossEncoder.load(folder, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    assert {weight.dtype for weight in half.network.parameters()} == {torch.bfloat16, torch.float32}
    ours = torch.tensor(half.score(PAIRS))
    assert not torch.equal(ours, ours.bfloat16().float())
    torch.testing.assert_close(ours, torch.tensor(whole.score(PAIRS)), atol=0.1, rtol=0.1)


def test_a_new_head_is_drawn_from_the_seed_and_named(tmp_path: Path) -> None:
    folder = str(tiny.tiny_bert(tmp_path / "bert"))
    one, same, other = (CrossEncoder.load(folder, seed=seed) for seed in (0, 0, 1))
    assert one.fresh == ("classifier.",)
    assert one.score(PAIRS) == same.score(PAIRS) != other.score(PAIRS)


@pytest.mark.parametrize("shared", [False, True])
def test_a_decoder_reads_its_score_at_an_end_token_here_and_elsewhere(tmp_path: Path, shared: bool) -> None:
    folder = tiny.tiny_llama(tmp_path / "llama")
    if shared:  # padding with the end token, as most decoders do
        change(folder / "tokenizer_config.json", pad_token="<|end|>")
    cross = CrossEncoder.load(str(folder))
    cross.max_tokens = 20
    end, pad = cross.tokenizer.eos_token_id, cross.tokenizer.pad_token_id
    rows, cut = cross.tokenize(LONG)
    assert cut == 3
    assert all(row.ids[-1] == end != pad and pad not in row.ids for row in rows)
    assert cross.tokenizer.decode(rows[0].ids) == "red cat \n one two three <|end|>"
    ours = cross.score(LONG)
    with torch.no_grad():  # the score is that of the end's place
        network: Any = cross.network
        states = network.model(torch.tensor([rows[0].ids])).last_hidden_state
        assert network.score(states)[0, -1, 0].item() == pytest.approx(ours[0], rel=1e-5)
    cross.save(tmp_path / "saved")
    assert in_sentence_transformers(tmp_path / "saved", LONG) == exact(ours)
    again = CrossEncoder.load(str(tmp_path / "saved"))
    assert again.score(LONG) == exact(ours)
    assert again.tokenize(LONG)[0] == rows


def test_a_trained_decoder_is_read_as_it_was_trained(tmp_path: Path) -> None:
    cross = CrossEncoder.load(str(tiny.tiny_llama(tmp_path / "llama")))
    cross.save(tmp_path / "saved")
    load_tokenizer("plain", tmp_path / "llama").save_pretrained(tmp_path / "saved")  # without any end
    again = CrossEncoder.load(str(tmp_path / "saved"))
    assert again.tokenizer.decode(again.tokenize(PAIRS[:1])[0][0].ids) == "red cat one two three"


@pytest.mark.parametrize("missing", ["eos_token", "others"])
def test_a_decoder_without_an_end_or_a_padding_token_is_refused(tmp_path: Path, missing: str) -> None:
    folder = tiny.tiny_llama(tmp_path / "llama")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    names = ["eos_token"] if missing == "eos_token" else ["pad_token", "unk_token", "bos_token"]
    path.write_text(json.dumps({key: value for key, value in settings.items() if key not in names}))
    wanted = "no end token" if missing == "eos_token" else "no special token beside the end to pad with"
    with pytest.raises(ModelError, match=f"{wanted}; use an encoder"):
        CrossEncoder.load(str(folder))


def test_an_encoder_decoder_scores_the_same_elsewhere(tmp_path: Path) -> None:
    cross = CrossEncoder.load(str(tiny.tiny_t5(tmp_path / "t5")))
    cross.save(tmp_path / "saved")
    assert in_sentence_transformers(tmp_path / "saved", PAIRS) == exact(cross.score(PAIRS))


def test_a_network_that_reads_its_padding_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.models.cross.network_inputs", lambda _network, ids, _mask, _types: {"input_ids": ids})
    with pytest.raises(ModelError, match="beside a longer one: it reads the padding"):
        CrossEncoder.load(str(tiny.tiny_bert(tmp_path / "bert")))


@pytest.mark.parametrize(
    ("modules", "fault"),
    [
        (
            ["sentence_transformers.base.modules.transformer.Transformer", "sentence_transformers.x.LogitScore"],
            "does not know: LogitScore. A re-ranker here is a network with a head of one output",
        ),
        (["theirs.Transformer"], "does not know: Transformer"),
    ],
)
def test_parts_that_burnish_would_leave_out_are_refused(
    cross: CrossEncoder, tmp_path: Path, modules: list[str], fault: str
) -> None:
    cross.save(tmp_path / "saved")
    (tmp_path / "saved" / "modules.json").write_text(json.dumps([{"type": kind, "path": ""} for kind in modules]))
    with pytest.raises(ModelError, match=fault):
        CrossEncoder.load(str(tmp_path / "saved"))


def test_a_prompt_before_the_texts_is_refused(cross: CrossEncoder, tmp_path: Path) -> None:
    cross.save(tmp_path / "saved")
    path = tmp_path / "saved" / "config_sentence_transformers.json"
    change(path, default_prompt_name="query", prompts={"query": "q: "})
    with pytest.raises(ModelError, match="puts the prompt 'query' before its texts"):
        CrossEncoder.load(str(tmp_path / "saved"))


def test_pickled_weights_and_code_are_refused(cross: CrossEncoder, tmp_path: Path) -> None:
    cross.save(tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").rename(tmp_path / "saved" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        CrossEncoder.load(str(tmp_path / "saved"))
    change(tmp_path / "saved" / "config.json", auto_map={"AutoModel": "theirs.Model"})
    with pytest.raises(ModelError, match="asks to run code"):
        CrossEncoder.load(str(tmp_path / "saved"))


def test_messages_call_it_a_reranker(tmp_path: Path) -> None:
    folder = tiny.tiny_bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.LayerNorm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"does not fit as a re-ranker: .*LayerNorm\.weight is missing from the file"):
        CrossEncoder.load(str(folder))
