import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from burnish.errors import ModelError
from burnish.models.load import (
    load_causal,
    load_classifier,
    load_masked,
    load_regressor,
    load_span_reader,
    load_transformer,
    resolve,
)
from burnish.models.quiet import quiet
from tiny import tiny_bert, tiny_llama, tiny_t5

FP32 = torch.float32


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def adapter(base: Path, folder: Path) -> Path:
    """Write a LoRA adapter whose update is not zero."""
    network: Any = load_causal(str(base), dtype=FP32)[0]
    with quiet():
        wrapped = get_peft_model(network, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    wrapped.save_pretrained(folder)
    return folder


def test_a_causal_model_comes_with_its_tokenizer_and_tied_embeddings(tmp_path: Path) -> None:
    model, tokenizer = load_causal(str(tiny_llama(tmp_path / "m")), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    assert tokenizer.chat_template
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_an_adapter_is_put_on_the_base_that_it_names(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    model, tokenizer = load_causal(str(adapter(base, tmp_path / "adapter")), dtype=FP32)
    plain = load_causal(str(base), dtype=FP32)[0]
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert tokenizer.chat_template
    merged = model.merge_and_unload()
    assert not torch.allclose(merged(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_an_adapter_whose_base_is_gone_says_so(tmp_path: Path) -> None:
    folder = adapter(tiny_llama(tmp_path / "base"), tmp_path / "adapter")
    change(folder / "adapter_config.json", base_model_name_or_path=str(tmp_path / "bas"))
    with pytest.raises(ModelError, match=r"the base of this adapter cannot be used: .*Did you mean 'base'\?"):
        load_causal(str(folder), dtype=FP32)


def test_an_adapter_with_weights_left_out_is_refused(tmp_path: Path) -> None:
    folder = adapter(tiny_llama(tmp_path / "base"), tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"lora_.* is missing from the file"):
        load_causal(str(folder), dtype=FP32)


@pytest.mark.parametrize("name", ["./gone", "/gone/model", "~/gone", "gone/", "a/b/c"])
def test_what_looks_like_a_path_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="there is no such model folder"):
        resolve(name)


def test_a_folder_that_is_nearly_there_is_suggested(tmp_path: Path) -> None:
    tiny_bert(tmp_path / "encoder")
    with pytest.raises(ModelError, match="Did you mean 'encoder'"):
        resolve(str(tmp_path / "encodr"))


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(ModelError, match="a model is a folder, and this is a file"):
        resolve(str(tmp_path / "m"))


def test_a_hub_name_that_cannot_be_had_is_one_sentence() -> None:
    with pytest.raises(ModelError, match=r"^nobody/nothing: this is neither a local folder nor .*embedded/minilm"):
        resolve("nobody/nothing")


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}),
        ("config.json", {"trust_remote_code": True}),
        ("config.json", {"_attn_implementation": "somebody/kernel"}),
        ("config.json", {"_attn_implementation_internal": "somebody/kernel:attend"}),
        ("config.json", {"text_config": {"_experts_implementation": "somebody/kernel"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
    ],
)
def test_settings_that_name_code_are_refused(tmp_path: Path, file: str, settings: dict[str, Any]) -> None:
    folder = tiny_bert(tmp_path / "m")
    change(folder / file, **settings)
    with pytest.raises(ModelError, match=rf"{file}: '\w+' asks to run code that came with the model"):
        resolve(str(folder))


def test_code_of_an_inner_folder_is_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    tiny_bert(folder / "0_Transformer")
    change(folder / "0_Transformer" / "config.json", auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelError, match="asks to run code"):
        resolve(str(folder))


def test_the_librarys_own_attention_may_be_named(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    change(folder / "config.json", _attn_implementation="sdpa", _attn_implementation_autoset=True)
    assert resolve(str(folder)) == folder


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"its weights are pickled \(pytorch_model\.bin\)"):
        load_transformer(str(folder), dtype=FP32)


def test_a_run_folder_points_to_its_model(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "run" / "model")
    with pytest.raises(ModelError, match=r"not a model folder \(no config.json\)\. Did you mean .*run/model"):
        load_causal(str(tmp_path / "run"), dtype=FP32)


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "m")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_causal(str(folder), dtype=FP32)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: this file of the model cannot be read as JSON"):
        load_causal(str(folder), dtype=FP32)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not fit as a causal language model: .* missing from the file"):
        load_causal(str(tiny_bert(tmp_path / "m")), dtype=FP32)


def test_a_layer_too_few_is_an_error_and_not_a_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_bert(tmp_path / "m")
    capfd.readouterr()  # of the making
    change(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\..* has no place in the network"):
        load_transformer(str(folder), dtype=FP32)
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"encoder\.layer\.2\..* is missing from the file"):
        load_transformer(str(folder), dtype=FP32)
    assert capfd.readouterr() == ("", "")


def test_an_encoder_is_taken_out_of_a_model_with_a_head(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m")
    BertForMaskedLM(BertConfig.from_pretrained(folder)).save_pretrained(folder)  # has a head, and no pooler
    path, model, tokenizer = load_transformer(str(folder), dtype=FP32)
    assert path == folder
    assert model.pooler is None
    assert tokenizer("a").input_ids[0] == tokenizer.cls_token_id


def test_a_new_head_follows_its_seed_and_a_trained_one_is_kept(tmp_path: Path) -> None:
    bert = str(tiny_bert(tmp_path / "m"))
    first, again, other = (load_classifier(bert, ["yes", "no"], dtype=FP32, seed=seed) for seed in (0, 0, 1))
    assert first.fresh == ("classifier.",)
    assert first.model.config.id2label == {0: "yes", 1: "no"}
    assert torch.equal(first.model.classifier.weight, again.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    first.model.save_pretrained(tmp_path / "c")
    first.tokenizer.save_pretrained(tmp_path / "c")
    kept = load_classifier(str(tmp_path / "c"), ["yes", "no"], dtype=FP32, seed=5)
    assert kept.fresh == ()
    assert torch.equal(kept.model.classifier.weight, first.model.classifier.weight)
    new = load_classifier(str(tmp_path / "c"), ["red", "green", "blue"], dtype=FP32, seed=5)
    assert new.fresh == ("classifier.",)
    assert new.model.classifier.weight.shape == (3, 32)


def test_a_head_for_other_labels_of_the_same_number_is_not_kept(tmp_path: Path) -> None:
    first = load_classifier(str(tiny_bert(tmp_path / "m")), ["yes", "no"], dtype=FP32, seed=0)
    first.model.save_pretrained(tmp_path / "c")
    first.tokenizer.save_pretrained(tmp_path / "c")
    new = load_classifier(str(tmp_path / "c"), ["cat", "dog"], dtype=FP32, seed=1)
    assert new.fresh == ("classifier.",)
    assert not torch.equal(new.model.classifier.weight, first.model.classifier.weight)


def test_a_causal_model_becomes_a_classifier_that_knows_its_padding(tmp_path: Path) -> None:
    found = load_classifier(str(tiny_llama(tmp_path / "m")), ["yes", "no"], dtype=FP32, seed=0)
    assert found.fresh == ("score.",)
    assert found.model.config.pad_token_id == found.tokenizer.pad_token_id


def test_a_regressor_has_one_output_and_a_trained_one_is_kept(tmp_path: Path) -> None:
    found = load_regressor(str(tiny_bert(tmp_path / "m")), dtype=FP32, seed=0)
    assert found.fresh == ("classifier.",)
    assert found.model.classifier.weight.shape == (1, 32)
    assert found.model.config.problem_type == "regression"
    found.model.save_pretrained(tmp_path / "r")
    found.tokenizer.save_pretrained(tmp_path / "r")
    kept = load_regressor(str(tmp_path / "r"), dtype=FP32, seed=1)
    assert kept.fresh == ()
    assert torch.equal(kept.model.classifier.weight, found.model.classifier.weight)
    new = load_classifier(str(tmp_path / "r"), ["yes", "no"], dtype=FP32, seed=1)
    assert new.fresh == ("classifier.",)
    assert new.model.classifier.weight.shape == (2, 32)


def test_a_span_reader_keeps_its_own_head_and_no_other(tmp_path: Path) -> None:
    bert = str(tiny_bert(tmp_path / "m"))
    classifier = load_classifier(bert, ["red", "green", "blue"], dtype=FP32, seed=0)
    classifier.model.save_pretrained(tmp_path / "c")
    classifier.tokenizer.save_pretrained(tmp_path / "c")
    found = load_span_reader(str(tmp_path / "c"), dtype=FP32, seed=0)
    assert found.fresh == ("qa_outputs.",)
    assert found.model.qa_outputs.weight.shape == (2, 32)
    assert torch.equal(found.model.bert.embeddings.word_embeddings.weight, embeddings(classifier.model))
    found.model.save_pretrained(tmp_path / "s")
    found.tokenizer.save_pretrained(tmp_path / "s")
    kept = load_span_reader(str(tmp_path / "s"), dtype=FP32, seed=1)
    assert kept.fresh == ()
    assert torch.equal(kept.model.qa_outputs.weight, found.model.qa_outputs.weight)


def test_a_decoder_is_no_span_reader_and_does_not_become_a_random_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not fit as a reader of answer spans: transformer\..* is missing.* use"):
        load_span_reader(str(tiny_llama(tmp_path / "m")), dtype=FP32, seed=0)


def test_a_head_beside_encoder_and_decoder_is_new_and_follows_its_seed(tmp_path: Path) -> None:
    t5 = str(tiny_t5(tmp_path / "m"))
    found, again, other = (load_span_reader(t5, dtype=FP32, seed=seed) for seed in (0, 0, 1))
    assert found.fresh == ("qa_outputs.",)
    assert torch.equal(found.model.qa_outputs.weight, again.model.qa_outputs.weight)
    assert not torch.equal(found.model.qa_outputs.weight, other.model.qa_outputs.weight)
    assert torch.equal(found.model.shared.weight, other.model.shared.weight)
    found.model.save_pretrained(tmp_path / "s")
    found.tokenizer.save_pretrained(tmp_path / "s")
    kept = load_span_reader(str(tmp_path / "s"), dtype=FP32, seed=1)
    assert kept.fresh == ()
    assert torch.equal(kept.model.qa_outputs.weight, found.model.qa_outputs.weight)


def test_a_head_beside_a_damaged_decoder_is_refused(tmp_path: Path) -> None:
    weights = tiny_t5(tmp_path / "m") / "model.safetensors"
    whole = load_file(weights)
    save_file({key: value for key, value in whole.items() if "decoder.block.1" not in key}, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"does not fit as a reader of answer spans: decoder\.block\.1\..* is missing"):
        load_span_reader(str(tmp_path / "m"), dtype=FP32, seed=0)


def test_an_encoder_writes_nothing_unless_its_settings_make_it_a_decoder(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "m", head=True)
    with pytest.raises(ModelError, match=r"this is an encoder \(bert\), which sees what stands behind each place; use"):
        load_causal(str(folder), dtype=FP32)
    change(folder / "config.json", is_decoder=True)
    assert load_causal(str(folder), dtype=FP32)[0].config.is_decoder


def test_a_masked_model_keeps_its_head_or_gets_one_that_shares_the_embeddings(tmp_path: Path) -> None:
    kept = load_masked(str(tiny_bert(tmp_path / "h", head=True)), dtype=FP32, seed=0)
    assert kept.fresh == ()
    found = load_masked(str(tiny_bert(tmp_path / "m")), dtype=FP32, seed=0)
    assert found.fresh == ("cls.predictions.bias", "cls.predictions.transform.")
    assert found.model.cls.predictions.decoder.weight is found.model.get_input_embeddings().weight
    with safe_open(tmp_path / "m" / "model.safetensors", framework="pt") as file:
        assert torch.equal(embeddings(found.model), file.get_tensor("embeddings.word_embeddings.weight"))
    other = load_masked(str(tmp_path / "m"), dtype=FP32, seed=1)
    dense = "cls.predictions.transform.dense.weight"
    assert not torch.equal(found.model.get_parameter(dense), other.model.get_parameter(dense))


def embeddings(model: Any) -> torch.Tensor:
    return model.bert.embeddings.word_embeddings.weight
