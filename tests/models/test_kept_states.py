"""Frozen lower layers read each text once while a training lasts, and nothing else changes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    EsmConfig,
    EsmModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from burnish.models import kept_states
from burnish.models.kept_states import KeptStates
from burnish.models.unpadded import padding_computed, unpad

SIZE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "bert": lambda: BertModel(BertConfig(**SIZE, **STILL)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZE, **STILL)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(
            vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=64, dropout=0.0, attention_dropout=0.0
        )
    ),
}


def batch(*lengths: int, seed: int = 1) -> dict[str, Tensor]:
    ids = torch.randint(5, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids.where(mask, torch.tensor(0)), "attention_mask": mask.long()}


def layers_of(model: nn.Module) -> nn.ModuleList:
    stack = next(one for one in model.modules() if isinstance(getattr(one, "layer", None), nn.ModuleList))
    layers = stack.layer
    assert isinstance(layers, nn.ModuleList)
    return layers


def frozen(model: nn.Module, count: int) -> nn.Module:
    """Freeze the embeddings and so many of the lowest layers."""
    for weight in model.parameters():
        weight.requires_grad = False
    for layer in [*layers_of(model)][count:]:
        layer.requires_grad_(True)
    return model.train()


@contextmanager
def read(model: nn.Module) -> Iterator[list[int]]:
    """Collect which layers are computed, once a call."""
    found: list[int] = []
    handles = [
        layer.register_forward_pre_hook(lambda *_, number=number: found.append(number))
        for number, layer in enumerate(layers_of(model))
    ]
    yield found
    for handle in handles:
        handle.remove()


def outcome(model: nn.Module, given: dict[str, Tensor]) -> list[Tensor]:
    """Return states where tokens are, and the gradients of what can have one."""
    states = model(**given).last_hidden_state[given["attention_mask"].bool()]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    grads = torch.autograd.grad(states.pow(3).sum(), weights, allow_unused=True) if weights else ()
    return [states.detach(), *(grad for grad in grads if grad is not None)]


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def filled(model: nn.Module, states: KeptStates, *batches: dict[str, Tensor]) -> None:
    states.fills = True
    for given in batches:
        model(**given)
    states.fills = False


@pytest.mark.parametrize("unpadded", [False, True], ids=["padded", "unpadded"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_the_same_and_frozen_layers_read_a_text_once(
    kind: str, count: int, unpadded: bool
) -> None:
    model = frozen(KINDS[kind](), count)
    plain = copy.deepcopy(model)
    if unpadded:
        unpad(model)
    first, second, third = batch(3, 9, 5, 5, 1), batch(2, 7, seed=2), batch(6, 6)  # the last without padding
    both = {name: torch.cat([first[name][:2], nn.functional.pad(second[name], (0, 2))]) for name in first}
    with KeptStates(model, tokens=44) as states:
        assert states.can_fill
        states.fills = True
        for given in (first, second, third):
            close(outcome(model, given), outcome(plain, given))
        states.fills = False
        assert states.texts == 9
        with read(model) as computed:
            for given in (first, second, third, both):
                close(outcome(model, given), outcome(plain, given))
        with read(model) as another:
            close(outcome(model, batch(3, 9, seed=3)), outcome(plain, batch(3, 9, seed=3)))
    assert set(computed) == {*range(count, 3)}
    assert another == [0, 1, 2]  # texts that were not filled in
    assert states.texts == 9
    assert len(layers_of(model)) == 3


def test_where_all_layers_are_frozen_none_is_computed_again() -> None:
    model = frozen(KINDS["bert"](), 3)
    unpad(model)
    given = batch(3, 9, 5)
    expected = outcome(model, given)
    with KeptStates(model, tokens=17) as states:
        filled(model, states, given)
        with read(model) as computed:
            close(outcome(model, given), expected)
        model.eval()
        with read(model) as evaluated, torch.no_grad():
            close(outcome(model, given), expected)
    assert computed == evaluated == []
    with read(model) as afterwards:
        close(outcome(model, given), expected)
    assert afterwards == [0, 1, 2]


def test_what_is_computed_hangs_on_what_was_filled_in_alone() -> None:
    model = frozen(KINDS["bert"](), 2)
    given, others = batch(7, 4), [batch(7, 9, seed=5), batch(3, seed=6)]
    found = []
    for between in ([], others):
        with KeptStates(model, tokens=11) as states:
            filled(model, states, given)
            for other in between:
                model(**other)
            found.append(model(**given).last_hidden_state)
    assert torch.equal(*found)


def test_weights_that_have_changed_are_noticed() -> None:
    model = frozen(KINDS["bert"](), 2)
    given = batch(3, 4)
    with KeptStates(model, tokens=7) as states:
        filled(model, states, given)
        with torch.no_grad():
            next(layers_of(model)[1].parameters()).mul_(1.5)
        changed = outcome(model, given)
        assert states.texts == 0
    close(changed, outcome(frozen(copy.deepcopy(model), 2), given))
    with KeptStates(model, tokens=7) as states:
        filled(model, states, given)
        layers_of(model)[1].requires_grad_(True)  # which was frozen when they were filled in
        more = outcome(model, given)
    close(more, outcome(frozen(copy.deepcopy(model), 1), given))
    assert len(more) > len(changed)


def test_what_drops_is_computed_as_ever() -> None:
    model = frozen(BertModel(BertConfig(**SIZE)), 2)
    given = batch(3, 4)
    with KeptStates(model, tokens=7) as states, read(model) as computed:
        assert not states.can_fill
        filled(model, states, given)
        first, second = model(**given).last_hidden_state, model(**given).last_hidden_state
    assert not torch.allclose(first, second)
    assert computed == [0, 1, 2] * 3


def test_nothing_is_kept_below_what_learns() -> None:
    model = frozen(KINDS["bert"](), 2)
    given = batch(3, 4)
    model.get_submodule("embeddings").requires_grad_(True)
    plain = copy.deepcopy(model)
    with KeptStates(model, tokens=7) as states:
        filled(model, states, given)
        assert states.texts == 0
        close(outcome(model, given), outcome(plain, given))


OTHERS = {
    "a norm behind the last layer": lambda: EsmModel(
        EsmConfig(**SIZE, **STILL, pad_token_id=0, position_embedding_type="absolute", token_dropout=False)
    ),
    "a bias for the distance": lambda: MPNetModel(MPNetConfig(**SIZE, **STILL)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_stack_that_does_more_than_run_its_layers_gives_the_same(what: str) -> None:
    model = frozen(OTHERS[what](), 1)
    plain = copy.deepcopy(model)
    given = batch(3, 4)
    with KeptStates(model, tokens=7) as states:
        filled(model, states, given)
        close(outcome(model, given), outcome(plain, given))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = frozen(KINDS["bert"](), 2), batch(3, 4)
    monkeypatch.setattr(kept_states, "MOST", 4 * 32 * 4)
    with KeptStates(model, tokens=5) as states:
        assert not states.can_fill
    with KeptStates(model, tokens=4) as states:  # fewer than there are
        filled(model, states, given)
    assert states.texts == 1


def test_states_of_hidden_places_are_computed_where_they_are_asked_for() -> None:
    model, given = frozen(KINDS["bert"](), 2), batch(3, 4)
    expected = model(**given).last_hidden_state
    with KeptStates(model, tokens=7) as states:
        filled(model, states, given)
        with padding_computed():
            assert torch.equal(model(**given).last_hidden_state, expected)


def test_an_error_leaves_the_layers_whole() -> None:
    model, given = frozen(KINDS["bert"](), 2), batch(3, 4)

    def fail(*_: object) -> None:
        raise ValueError("a fault")

    with KeptStates(model, tokens=7) as states:
        states.fills = True
        for place in (0, 2):
            handle = layers_of(model)[place].register_forward_pre_hook(fail)
            with pytest.raises(ValueError, match="a fault"):
                model(**given)
            handle.remove()
            assert len(layers_of(model)) == 3
        close(outcome(model, given), outcome(copy.deepcopy(model), given))
