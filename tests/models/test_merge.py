"""Adapters merged into their base: the same model, in fewer products."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

import tiny
from burnish.generators.local import Local
from burnish.methods import Method
from burnish.models.decode import write
from burnish.models.load import load_causal
from burnish.models.merge import merged
from burnish.models.save import save_network
from burnish.records import Completion, Message
from burnish.steps.evaluate import of_model
from burnish.tasks.generate import Generate

IDS = torch.tensor([[5, 6, 7, 8, 9, 2]])
PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5]]
MERGED = [{"kind": "lora"}, {"kind": "lora", "dora": True}, {"kind": "ia3"}]
KEPT = [{"kind": "prompt", "length": 4}, {"kind": "prefix", "length": 4}, {"kind": "adapters"}]


def adapted(folder: Path, method: dict[str, Any]) -> Any:
    """Return a tiny network with a method on it whose weights have moved."""
    torch.manual_seed(0)
    network, _ = load_causal(str(tiny.tiny_llama(folder)), dtype=torch.float32)
    model: Any = Method.read(method).apply(network).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    with warnings.catch_warnings():  # PEFT gives a prefix to transformers by a name that is going to change
        warnings.simplefilter("ignore", FutureWarning)
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def written(model: Any) -> list[list[int]]:
    return write(model, PROMPTS, end=-1, pad=0, max_new_tokens=8)


@pytest.mark.parametrize("method", [*MERGED, *KEPT], ids=str)
def test_a_merged_model_says_the_same(tmp_path: Path, method: dict[str, Any]):
    model = adapted(tmp_path, method)
    logits, texts = logits_of(model), written(model)
    assert merged(model) is model
    torch.testing.assert_close(logits_of(model), logits, rtol=1e-4, atol=1e-4)
    assert written(model) == texts
    assert not any(isinstance(module, BaseTunerLayer) for module in model.modules())


def test_a_weight_that_the_embeddings_share_is_left_alone(tmp_path: Path):
    with pytest.warns(UserWarning, match="a tied layer is part of the adapter"):
        model = adapted(tmp_path, {"kind": "lora", "target_modules": ["lm_head", "q_proj"]})
    before = logits_of(model)
    merged(model)
    torch.testing.assert_close(logits_of(model), before, rtol=1e-4, atol=1e-4)
    left = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    assert [name.rpartition(".")[2] for name in left] == ["lm_head"]


def test_an_evaluation_and_a_writer_say_what_the_adapter_says_beside_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for place in ("burnish.steps.evaluate", "burnish.generators.local"):
        monkeypatch.setattr(f"{place}.chosen_dtype", lambda *_: torch.float32)
    model = adapted(tmp_path / "base", {"kind": "lora"})
    _, tokenizer = load_causal(str(tmp_path / "base"), dtype=torch.float32)
    save_network(model, tokenizer, tmp_path / "adapter")
    task = Generate(metrics=("exact_match",), max_new_tokens=6)
    asked = [(Message(role="user", content=text),) for text in ("the cat is red", "a dog")]
    rows = [Completion(id=str(n), prompt=prompt, completion="yes") for n, prompt in enumerate(asked)]
    name = str(tmp_path / "adapter")
    beside = task.predictions(
        task.build(name).model.eval(), task.build(name), rows, reads="answers", progress=lambda *_: None
    )
    found = of_model(task, name, rows, seed=0, progress=lambda *_: None)
    assert found.predictions["answers"] == beside
    assert Local(model=name, max_new_tokens=6).load().write(asked, done=lambda _: None) == beside
    assert Local(model=str(tmp_path / "base"), max_new_tokens=6).load().write(asked, done=lambda _: None) != beside
