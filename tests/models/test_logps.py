"""Log-probabilities by blocks of logits: the numbers and gradients of the whole."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from burnish.models.completions import CompletionBatch, collate_branches, completion_logits, completion_logps
from burnish.models.logps import ROWS, target_logps
from burnish.models.quiet import quiet
from burnish.models.segments import plain_head

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
BATCH = collate_branches([((1, 2, 3), ((5, 6, 7), (8, 9))), ((4,), ((3, 2), (11, 12, 13, 14)))])


def plain(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return -functional.cross_entropy(states @ weight.T, targets, reduction="none")


def drawn(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    states, weight = torch.randn(tokens, 12, dtype=dtype), torch.randn(70, 12, dtype=dtype)
    return states, weight, torch.randint(0, 70, (tokens,))


@pytest.mark.parametrize("trains", [(True, False), (True, True), (False, True)], ids=str)
@pytest.mark.parametrize("tokens", [1, ROWS, 2 * ROWS + 3])
def test_gradients_are_those_of_the_whole(tokens: int, trains: tuple[bool, bool]):
    states, weight, targets = drawn(tokens, torch.float64)
    scale = torch.randn(tokens, dtype=torch.float64)
    wanted = [part.requires_grad_(moves) for part, moves in zip((states, weight), trains, strict=True) if moves]
    ours, theirs = target_logps(states, weight, targets), plain(states, weight, targets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    found, right = (torch.autograd.grad((scale * one).sum(), wanted) for one in (ours, theirs))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_without_gradient_the_numbers_are_the_same():
    states, weight, targets = drawn(ROWS + 5, torch.float32)
    ours = target_logps(states.requires_grad_(), weight, targets)
    with torch.no_grad():
        torch.testing.assert_close(target_logps(states, weight, targets), ours, rtol=0, atol=0)


def test_extreme_logits_stay_finite():
    states = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    found = target_logps(states, torch.eye(2), torch.tensor([0, 0]))
    assert found.tolist() == [0.0, -1e4]
    found.sum().backward()
    assert states.grad is not None
    assert states.grad.tolist() == [[0.0, 0.0], [1.0, -1.0]]


def network(kind: str) -> Any:
    torch.manual_seed(0)
    with quiet():
        made: Any = {
            "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
            "granite": lambda: GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=8.0)),
            "cohere": lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.25)),
            "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)),  # caps its logits at 30
        }[kind]()
    return made.eval()


def by_logits(model: Any, batch: CompletionBatch) -> Tensor:
    return -functional.cross_entropy(completion_logits(model, batch), batch.targets, reduction="none")


@pytest.mark.parametrize(
    ("kind", "is_plain"), [("llama", True), ("granite", False), ("cohere", False), ("gemma2", False)]
)
def test_a_head_is_taken_alone_only_where_nothing_follows_it(kind: str, is_plain: bool):
    model = network(kind)
    assert (plain_head(model) is not None) == is_plain
    torch.testing.assert_close(completion_logps(model, BATCH), by_logits(model, BATCH), rtol=0, atol=1e-6)


def test_an_adapted_head_is_not_taken_alone():
    model: Any = get_peft_model(
        network("llama"), LoraConfig(target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    )
    assert plain_head(model) is None
    torch.testing.assert_close(completion_logps(model, BATCH), by_logits(model, BATCH), rtol=0, atol=1e-6)


@pytest.mark.parametrize("trained", ["all", "lora"])
def test_a_models_gradient_is_that_of_its_logits(trained: str):
    model: Any = network("llama").double()
    if trained == "lora":
        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False)).double()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    ours, theirs = (
        torch.autograd.grad((found(model, BATCH) * torch.arange(11)).sum(), weights)
        for found in (completion_logps, by_logits)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
