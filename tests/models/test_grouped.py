"""Attention of short texts in bf16: as near to the exact numbers as torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.models import grouped
from burnish.models.completions import collate_branches, completion_logps
from burnish.models.grouped import LIMIT, attend, suits
from burnish.models.quiet import quiet
from burnish.models.segments import is_packed


def drawn(tokens: int, seen: int, *, heads: int, shared: int, pieces: int = 2) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(heads, tokens), (heads // shared, seen), (heads // shared, seen)]
    return [torch.randn(pieces, many, length, 16).bfloat16().requires_grad_() for many, length in shapes]


def whole(parts: list[Tensor], seen: Tensor | None, scale: float | None) -> Tensor:
    shared = parts[0].shape[1] // parts[1].shape[1]
    key, value = (part.repeat_interleave(shared, dim=1) for part in parts[1:])
    found: Tensor = scaled_dot_product_attention(parts[0], key, value, seen, is_causal=seen is None, scale=scale)
    return found.transpose(1, 2)


def found(out: Tensor, parts: list[Tensor]) -> list[Tensor]:
    slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * slope).sum(), parts)]


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize(("tokens", "seen"), [(1, 1), (9, 9), (5, 14), (300, 300), (200, 400)])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_numbers_and_gradients_are_as_exact_as_torchs(tokens: int, seen: int, shared: int, scale: float | None):
    parts = drawn(tokens, seen, heads=6, shared=shared)
    sees = None if tokens == seen else torch.ones(seen, seen, dtype=torch.bool).tril()[None, None, seen - tokens :]
    exact = [part.detach().double().requires_grad_() for part in parts]
    right = found(whole(exact, sees, scale), exact)
    ours, theirs = (
        found(make(), parts) for make in (lambda: attend(*parts, sees, scale), lambda: whole(parts, sees, scale))
    )
    for one, other, truth in zip(ours, theirs, right, strict=True):
        assert (one - truth).norm() <= 1.5 * (other - truth).norm() + 2e-3 * truth.norm()


@pytest.mark.parametrize("tokens", [9, 60])
def test_how_many_are_computed_at_once_changes_nothing(tokens: int, monkeypatch: pytest.MonkeyPatch):
    parts = drawn(tokens, tokens, heads=6, shared=3)
    together = found(attend(*parts, None, None), parts)
    monkeypatch.setattr(grouped, "AT_ONCE", 3 * tokens * tokens)  # of four, one is alone
    apart = found(attend(*parts, None, None), parts)
    assert all(torch.equal(one, other) for one, other in zip(together, apart, strict=True))
    with torch.no_grad():  # nothing is kept for a gradient
        assert torch.equal(attend(*parts, None, None), together[0])


def test_a_hidden_key_changes_nothing():
    parts = drawn(4, 4, heads=2, shared=1)
    sees = torch.ones(4, 4, dtype=torch.bool).tril().logical_and(torch.arange(4) != 1)[None, None]
    out = attend(*parts, sees, None)
    with torch.no_grad():
        parts[1][:, :, 1], parts[2][:, :, 1] = 50.0, -50.0
    assert torch.equal(attend(*parts, sees, None), out)


@pytest.mark.parametrize(
    ("change", "settings"),
    [({"dtype": torch.float32}, {}), ({}, {"dropout": 0.1}), ({"length": LIMIT}, {})],
    ids=["fp32", "dropout", "long"],
)
def test_all_else_is_left_to_torch(change: dict[str, Any], settings: dict[str, Any]):
    query = torch.zeros(1, 2, 3, 8, dtype=torch.bfloat16)
    key = torch.zeros(1, 1, change.get("length", 3), 8, dtype=torch.bfloat16)
    assert suits(query, key[:, :, :3], {"dropout": 0.0})
    assert not suits(query.to(change.get("dtype", torch.bfloat16)), key, settings)


def test_a_model_in_bf16_is_cut_and_reads_as_exactly_as_with_torchs_attention(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    with quiet():
        network = LlamaForCausalLM(
            LlamaConfig(vocab_size=50, num_hidden_layers=3, initializer_range=0.3, **sizes)
        ).eval()
    batch = collate_branches([((1, 2, 3), ((5, 6, 7), (8, 9))), ((4,), ((3, 2), (11, 12, 13, 14)))])
    exact = completion_logps(network, batch)
    for weight in network.parameters():
        weight.data = weight.data.bfloat16()
    assert is_packed(network)
    ours = (completion_logps(network, batch) - exact).norm()
    monkeypatch.setattr("burnish.models.segments.suits", lambda *_: False)
    theirs = (completion_logps(network, batch) - exact).norm()
    assert 0 < ours < 1.5 * theirs
