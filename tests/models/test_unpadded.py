"""Layers that skip padding give what padded ones give, and gradients too."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from burnish.models import unpadded
from burnish.models.grouped import attend
from burnish.models.recompute import recompute_layers
from burnish.models.unpadded import unpad

SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
LENGTHS = (3, 9, 5, 5, 1)
KINDS = {
    "bert": lambda: BertModel(BertConfig(**SIZE)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZE)),
    "electra": lambda: ElectraModel(ElectraConfig(**SIZE)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    ),
}


def batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 50, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return {"input_ids": ids.where(mask, torch.tensor(0)), "attention_mask": mask.long()}


@contextmanager
def read(model: nn.Module) -> Iterator[list[int]]:
    """Collect how many places each layer computes."""
    found: list[int] = []
    layers = next(m for m in model.modules() if isinstance(getattr(m, "layer", None), nn.ModuleList)).layer
    handles = [
        layer.register_forward_pre_hook(lambda _, given: found.append(given[0].shape[0] * given[0].shape[1]))
        for layer in layers
    ]
    yield found
    for handle in handles:
        handle.remove()


def pair(kind: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    plain = KINDS[kind]().eval()
    ours = copy.deepcopy(plain)
    unpad(ours)
    return plain, ours


def gradients(model: nn.Module, given: dict[str, Tensor]) -> list[Tensor]:
    out = model(**given).last_hidden_state * given["attention_mask"][..., None]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(out.pow(3).sum(), weights, allow_unused=True)
    return [torch.zeros_like(weight) if grad is None else grad for weight, grad in zip(weights, found, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_the_padded_network(kind: str) -> None:
    plain, ours = pair(kind)
    given = batch()
    with read(ours) as places:
        found = ours(**given).last_hidden_state
    assert places[-2:] == [sum(LENGTHS)] * 2
    is_token = given["attention_mask"].bool()
    assert torch.allclose(found[is_token], plain(**given).last_hidden_state[is_token], atol=1e-5)
    assert not found[~is_token].any()
    for mine, theirs in zip(gradients(ours, given), gradients(plain, given), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4 * max(1.0, theirs.abs().max().item()))


def test_a_head_and_token_types_come_out_alike() -> None:
    plain = BertForSequenceClassification(BertConfig(**SIZE)).eval()
    ours = copy.deepcopy(plain)
    unpad(ours)
    given = batch()
    given |= {"token_type_ids": (torch.arange(max(LENGTHS)) > 1).long().expand(len(LENGTHS), -1)}
    assert torch.allclose(ours(**given).logits, plain(**given).logits, atol=1e-6)


def test_tokens_on_the_right_or_with_gaps_come_out_alike() -> None:
    plain, ours = pair("bert")
    given = batch()
    given["attention_mask"] = given["attention_mask"].flip(1)
    given["attention_mask"][1, 4] = 0
    is_token = given["attention_mask"].bool()
    # The mask's first query is what tells keys from padding, and every query has the same keys.
    assert torch.allclose(
        ours(**given).last_hidden_state[is_token], plain(**given).last_hidden_state[is_token], atol=1e-5
    )


def test_numbers_are_nearly_the_same_in_bf16() -> None:
    plain, ours = (model.bfloat16() for model in pair("bert"))
    given = batch()
    is_token = given["attention_mask"].bool()
    mine, theirs = (model(**given).last_hidden_state[is_token].float() for model in (ours, plain))
    assert (mine - theirs).norm() < 0.02 * theirs.norm()


def test_what_carries_no_padding_is_left_alone() -> None:
    _, ours = pair("bert")
    given = {name: part[1:2] for name, part in batch().items()}
    with read(ours) as places:
        ours(**given)
    assert places == [9, 9]


def test_in_bf16_attention_is_ours_without_padding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, ours = (model.bfloat16() for model in pair("bert"))
    given = {name: part[2:4, :5] for name, part in batch().items()}
    computed: list[int] = []
    monkeypatch.setattr(unpadded, "attend", lambda *parts: (computed.append(1), attend(*parts))[1])
    mine, theirs = (model(**given).last_hidden_state.float() for model in (ours, plain))
    assert computed
    assert (mine - theirs).norm() < 0.02 * theirs.norm()


def test_an_encoder_that_adds_a_bias_for_the_distance_stays_padded() -> None:
    torch.manual_seed(0)
    plain = MPNetModel(MPNetConfig(**SIZE, max_position_embeddings=64)).eval()
    ours = copy.deepcopy(plain)
    unpad(ours)
    given = batch()
    with read(ours) as places:
        found = ours(**given).last_hidden_state
    assert places[-2:] == [len(LENGTHS) * max(LENGTHS)] * 2
    assert torch.equal(found, plain(**given).last_hidden_state)


def test_a_network_of_another_form_gets_no_hook() -> None:
    model = T5EncoderModel(T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4))
    unpad(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_hooks_are_put_on_once() -> None:
    _, ours = pair("bert")
    unpad(ours)
    assert len(ours.encoder._forward_pre_hooks) == 1


def test_activations_that_are_not_kept_are_computed_alike() -> None:
    plain, ours = pair("bert")
    recompute_layers(ours)
    ours.train()  # layers keep their activations else; BERT's dropout is off
    plain.train()
    for model in (plain, ours):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    given = batch()
    for mine, theirs in zip(gradients(ours, given), gradients(plain, given), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4 * max(1.0, theirs.abs().max().item()))
    assert ours.config._attn_implementation == "sdpa"


def test_after_an_error_in_a_layer_attention_is_what_it_was() -> None:
    plain, ours = pair("bert")
    given = batch()
    ours(**given)

    def fail(*_: object) -> None:
        raise ValueError("broken")

    handle = ours.encoder.layer[1].register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="broken"):
        ours(**given)
    handle.remove()
    assert ours.config._attn_implementation == "sdpa"
    is_token = given["attention_mask"].bool()
    found = ours(**given).last_hidden_state[is_token]
    assert torch.allclose(found, plain(**given).last_hidden_state[is_token], atol=1e-5)
