from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from burnish.models.completions import (
    Apart,
    collate_behind,
    collate_branches,
    collate_branches_apart,
    completion_logits,
)
from burnish.models.layout import Branches
from burnish.models.quiet import quiet
from burnish.models.segments import can_cut
from burnish.train.fused import fuse

SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
FEW: dict[str, Any] = {**SMALL, "num_key_value_heads": 2}
SMALL_GPT2: dict[str, Any] = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
CUT: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**FEW)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**FEW, head_dim=16)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SMALL_GPT2, initializer_range=0.3)),
    "gpt neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)),
    "scaled logits": lambda: GraniteForCausalLM(GraniteConfig(**FEW, logits_scaling=8.0)),
    "a window": lambda: MistralForCausalLM(MistralConfig(**FEW, sliding_window=4)),
    "a window in some layers": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**FEW, head_dim=8, sliding_window=4)),
}
NOT_CUT: dict[str, Callable[[], Any]] = {
    "a bias for the distance": lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=2)),
    "a convolution": lambda: Lfm2ForCausalLM(Lfm2Config(**FEW, layer_types=["conv", "full_attention"])),
    "capped logits": lambda: Gemma2ForCausalLM(Gemma2Config(**FEW, head_dim=8, final_logit_softcapping=3.0)),
    "eager": lambda: LlamaForCausalLM(LlamaConfig(**FEW, attn_implementation="eager")),
}


def ids(count: int, draw: torch.Generator) -> list[int]:
    return torch.randint(3, 50, (count,), generator=draw).tolist()


def some_rows() -> list[Branches]:
    """Return prompts with one, two and four completions, of one token and more."""
    draw = torch.Generator().manual_seed(1)
    sizes = [(7, (3, 1, 5, 1)), (1, (2,)), (3, (1,)), (9, (4, 6))]
    return [(ids(prompt, draw), [ids(one, draw) for one in completions]) for prompt, completions in sizes]


def made(make: Callable[[], Any], dtype: torch.dtype = torch.float32, *, lora: bool = False) -> Any:
    torch.manual_seed(0)
    with quiet():
        network = make().to(dtype).eval()
        if lora:
            turned = isinstance(network, GPT2LMHeadModel)  # its layers keep their weights transposed
            network = get_peft_model(
                network,
                LoraConfig(target_modules="all-linear", init_lora_weights=False, r=4, fan_in_fan_out=turned),
            )
    fuse(network)
    return network


def one_by_one(network: Any, rows: Sequence[Branches]) -> Tensor:
    """Return the logits of each completion read behind its prompt alone, by the whole network."""
    found = []
    for prompt, completions in rows:
        for completion in completions:
            logits = network(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
            found.append(logits[len(prompt) - 1 : -1])
    return torch.cat(found)


def gradients(network: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
    network.zero_grad()
    functional.cross_entropy(logits, targets, reduction="sum").backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])


def assert_as_one_by_one(
    network: Any, rows: Sequence[Branches], *, logits: float, gradient: float, alike: int = 0
) -> None:
    """gradient: of the largest one. alike: first tokens of all prompts, which are read once."""
    batch = collate_branches(rows)
    if alike:
        batch = collate_behind(rows[0][0][:alike], [(prompt[alike:], own) for prompt, own in rows])
        assert len(batch.read.ids) == len(collate_branches(rows).read.ids) - alike * (len(rows) - 1)
    found, expected = completion_logits(network, batch), one_by_one(network, rows)
    torch.testing.assert_close(found, expected, rtol=logits, atol=logits * expected.abs().max().item())
    ours, theirs = gradients(network, found, batch.targets), gradients(network, expected, batch.targets)
    assert (ours - theirs).abs().max() <= gradient * theirs.abs().max()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", CUT)
def test_a_row_without_padding_gives_the_logits_and_gradients_of_texts_read_alone(kind: str, lora: bool):
    network = made(CUT[kind], lora=lora)
    assert can_cut(network.get_base_model() if lora else network)
    assert_as_one_by_one(network, some_rows(), logits=1e-5, gradient=1e-5)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", [*CUT, *NOT_CUT])
def test_what_all_prompts_begin_with_is_read_once_and_changes_nothing(kind: str, lora: bool):
    beginning = ids(6, torch.Generator().manual_seed(3))
    rows = [([*beginning, *prompt], completions) for prompt, completions in some_rows()]
    network = made({**CUT, **NOT_CUT}[kind], lora=lora)
    assert_as_one_by_one(network, rows, logits=1e-5, gradient=2e-5, alike=6)


@pytest.mark.parametrize("kind", CUT)
def test_in_fp64_they_are_equal_to_more_digits(kind: str):
    inner_fp32 = kind not in ("gpt2", "gpt neox")  # their norms compute in fp32 whatever they are given
    assert_as_one_by_one(
        made(CUT[kind], torch.float64), some_rows(), logits=1e-10, gradient=1e-6 if inner_fp32 else 1e-10
    )


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", NOT_CUT)
def test_a_network_that_cannot_be_cut_reads_padded_rows(kind: str, lora: bool):
    network = made(NOT_CUT[kind], lora=lora)
    assert not can_cut(network.get_base_model() if lora else network)
    assert_as_one_by_one(network, some_rows(), logits=1e-5, gradient=1e-5)


def test_soft_tokens_stand_before_each_completions_prompt():
    soft = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)
    network = get_peft_model(made(CUT["llama"]), soft).eval()
    rows, found = some_rows(), []
    for prompt, completions in rows:
        for completion in completions:
            logits = network(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
            found.append(logits[3 + len(prompt) - 1 : -1])
    torch.testing.assert_close(completion_logits(network, collate_branches(rows)), torch.cat(found))


@pytest.mark.parametrize("kind", CUT)
@torch.no_grad()
def test_no_token_sees_another_row_or_another_completion(kind: str):
    network, rows = made(CUT[kind]), some_rows()
    before = torch.split(completion_logits(network, collate_branches(rows)), collate_branches(rows).lengths)
    draw = torch.Generator().manual_seed(2)
    (prompt, first), *others = rows
    changed = [(prompt, [first[0], ids(1, draw), ids(5, draw), first[3]]), others[0], ([4, 5, 6], [[7]]), others[2]]
    after = torch.split(completion_logits(network, collate_branches(changed)), collate_branches(rows).lengths)
    same = [torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True)]
    assert same == [True, True, False, True, True, False, True, True]


def test_dropout_drops_in_a_row_too():
    network = made(lambda: LlamaForCausalLM(LlamaConfig(**FEW, attention_dropout=0.5)))
    batch = collate_branches(some_rows())
    with torch.no_grad():
        sure = completion_logits(network, batch)
        assert torch.equal(sure, completion_logits(network, batch))
        network.train()
        assert not torch.allclose(completion_logits(network, batch), sure, atol=1e-2)


def test_the_network_is_as_before_when_a_pass_fails():
    network = made(CUT["llama"])
    assert can_cut(network)
    with pytest.raises(IndexError):
        completion_logits(network, collate_branches([([1, 2], [[3, 999], [4, 5]]), ([999], [[1]])]))
    assert network.config._attn_implementation == "sdpa"
    assert_as_one_by_one(network, some_rows(), logits=1e-5, gradient=1e-5)


def test_lengths_split_the_trained_tokens():
    rows = some_rows()
    batch = collate_branches(rows)
    completions = [one for _, found in rows for one in found]
    assert [part.tolist() for part in torch.split(batch.targets, batch.lengths)] == completions
    assert collate_branches_apart(rows).lengths == batch.lengths


@pytest.mark.parametrize("soft", [False, True])
def test_an_encoder_reads_each_prompt_once_for_all_its_completions(soft: bool):
    torch.manual_seed(0)
    small = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    network: Any = T5ForConditionalGeneration(T5Config(vocab_size=50, **small, decoder_start_token_id=0)).eval()
    if soft:
        network = get_peft_model(network, PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=3))
    rows = some_rows()
    batch = collate_branches_apart(rows)
    assert isinstance(batch.read, Apart)
    assert len(batch.read.prompts) == len(rows)
    alone = [
        network(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *one[:-1]]])).logits[0]
        for prompt, completions in rows
        for one in completions
    ]
    found, expected = completion_logits(network.eval(), batch), torch.cat(alone)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    ours, theirs = gradients(network, found, batch.targets), gradients(network, expected, batch.targets)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
