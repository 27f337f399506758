"""Keys and values before those of the text, against attention written out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DebertaV2Model,
    DynamicCache,
    EncoderDecoderCache,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
)

import tiny
from burnish.additions.attention import keys_and_values, put_before, start_from, switched_off
from burnish.errors import ModelError
from burnish.models.quiet import quiet

IDS = torch.tensor([[5, 6, 7, 8, 9, 1], [7, 5, 11, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
WRITTEN = torch.tensor([[0, 6, 9, 12, 13], [0, 30, 9, 1, 1]])
TEXT = torch.tensor([7, 9, 8])
TOKENS = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, **TOKENS}
MASKS = [None, MASK]
EITHER = pytest.mark.parametrize("implementation", ["sdpa", "eager"])

Maker = Callable[[str], Any]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return partial(_made, AutoModel, tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return partial(_made, AutoModelForSeq2SeqLM, tiny.tiny_t5(tmp_path_factory.mktemp("t5")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return partial(_made, AutoModelForSequenceClassification, tiny.tiny_llama(tmp_path_factory.mktemp("llama")))


def _made(auto: Any, folder: Path, implementation: str) -> Any:
    """Return a network with keys and values of random numbers before its text's."""
    torch.manual_seed(1)  # of a head that the folder lacks
    with quiet():
        network = auto.from_pretrained(folder, attn_implementation=implementation).eval()
    return with_prefix(network)


def with_prefix(network: Any, length: int = 3) -> Any:
    put_before(network, length)
    torch.manual_seed(1)
    with torch.no_grad():
        for prefix in prefixes(network).values():
            nn.init.normal_(prefix.keys)
            nn.init.normal_(prefix.values)
    return network


def prefixes(network: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in network.named_modules() if name.endswith(".prefix")}


def read(network: Any, attentions: list[Any], **inputs: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return what each attention is asked from, what it reads, and what it gives, in one pass of the network."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(_layer: Any, given: tuple[Any, ...], named: dict[str, Any], output: tuple[Any, ...]) -> None:
        asks = named.get("hidden_states", given[0] if given else None)
        others = named.get("key_value_states")
        found.append((asks, asks if others is None else others, output[0]))

    hooks = [attention.register_forward_hook(note, with_kwargs=True) for attention in attentions]
    with torch.no_grad():
        network(**inputs)
    for hook in hooks:
        hook.remove()
    return found


def by_hand(
    queries: Tensor, keys: Tensor, values: Tensor, prefix: Any, *, scale: float, bias: Tensor, seen: Tensor
) -> Tensor:
    """Return (rows, tokens, heads · width): softmax over prefix and text, row by row, head by head, token by token.

    queries, keys, values: (rows, heads, tokens, width). bias: (heads, queries, keys). seen: (rows, queries, keys).
    """
    rows, heads, tokens, width = queries.shape
    found = torch.zeros(rows, tokens, heads, width)
    for row in range(rows):
        for head in range(heads):
            for token in range(tokens):
                places = seen[row, token].nonzero().flatten()
                before = prefix.keys[head] @ queries[row, head, token] * scale
                text = keys[row, head, places] @ queries[row, head, token] * scale + bias[head, token, places]
                shares = torch.cat([before, text]).softmax(dim=0)
                read = torch.cat([prefix.values[head], values[row, head, places]])
                found[row, token, head] = shares @ read
    return found.flatten(2)


def split(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


@EITHER
@pytest.mark.parametrize("mask", MASKS)
@torch.no_grad()
def test_bert_reads_the_prefix_before_its_text(implementation: str, mask: Tensor | None, bert: Maker):
    network = bert(implementation)
    layer = network.encoder.layer[1].attention.self
    [(asks, _, output)] = read(network, [layer], input_ids=IDS, attention_mask=mask)
    q, k, v = (split(part(asks), 4) for part in (layer.query, layer.key, layer.value))
    seen = torch.ones(2, 6, 6) if mask is None else mask[:, None].expand(-1, 6, -1)
    expected = by_hand(q, k, v, layer.prefix, scale=8**-0.5, bias=torch.zeros(4, 6, 6), seen=seen)
    torch.testing.assert_close(output, expected)


@EITHER
@pytest.mark.parametrize("mask", MASKS)
@torch.no_grad()
def test_t5_reads_the_prefix_in_all_three_attentions(implementation: str, mask: Tensor | None, t5: Maker):
    network = t5(implementation)
    encoder, decoder = network.encoder.block, network.decoder.block
    layers = [encoder[1].layer[0].SelfAttention, decoder[1].layer[0].SelfAttention, decoder[1].layer[1].EncDecAttention]
    found = read(network, layers, input_ids=IDS, attention_mask=mask, decoder_input_ids=WRITTEN)
    padding = torch.ones(2, 6) if mask is None else mask
    cases = (  # the places' bias stands in the first layer; across, there is none
        (encoder[0].layer[0].SelfAttention.compute_bias(6, 6)[0], padding[:, None].expand(-1, 6, -1)),
        (decoder[0].layer[0].SelfAttention.compute_bias(5, 5)[0], torch.ones(5, 5).tril().expand(2, -1, -1)),
        (torch.zeros(4, 5, 6), padding[:, None].expand(-1, 5, -1)),
    )
    assert len(prefixes(network)) == 6
    for layer, (asks, others, output), (bias, seen) in zip(layers, found, cases, strict=True):
        q, k, v = split(layer.q(asks), 4), split(layer.k(others), 4), split(layer.v(others), 4)
        expected = layer.o(by_hand(q, k, v, layer.prefix, scale=1.0, bias=bias, seen=seen))
        torch.testing.assert_close(output, expected)


@EITHER
@torch.no_grad()
def test_a_decoder_sees_no_later_token(implementation: str, llama: Maker):
    network = llama(implementation).model
    whole = network(input_ids=IDS[:1]).last_hidden_state  # nothing is padded: no mask is made for sdpa
    for length in range(1, 6):
        part = network(input_ids=IDS[:1, :length]).last_hidden_state
        torch.testing.assert_close(whole[:, :length], part, atol=1e-5, rtol=1e-4)
    with switched_off(network):
        assert not torch.allclose(network(input_ids=IDS[:1]).last_hidden_state, whole, atol=1e-2)


@torch.no_grad()
def test_a_row_gives_the_same_padded_and_alone(llama: Maker):
    network = llama("sdpa")
    both = network(input_ids=IDS, attention_mask=MASK).logits
    torch.testing.assert_close(both[1:], network(input_ids=IDS[1:, :4]).logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both, llama("eager")(input_ids=IDS, attention_mask=MASK).logits, atol=1e-5, rtol=1e-4)


@EITHER
@torch.no_grad()
def test_t5_writes_the_same_with_a_cache_and_without(implementation: str, t5: Maker):
    network = t5(implementation)
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    whole = network(**inputs, decoder_input_ids=WRITTEN).logits
    for step in range(5):
        one = network(**inputs, decoder_input_ids=WRITTEN[:, step : step + 1], cache=cache).logits
        torch.testing.assert_close(one, whole[:, step : step + 1], atol=1e-4, rtol=1e-4)
    assert [layer.keys.shape[2] for layer in cache.self_attention_cache.layers] == [5, 5]  # no prefix among them
    assert [layer.keys.shape[2] for layer in cache.cross_attention_cache.layers] == [6, 6]
    texts = [network.generate(**inputs, max_new_tokens=8, use_cache=kept, do_sample=False) for kept in (True, False)]
    assert torch.equal(*texts)
    with switched_off(network):
        assert not torch.equal(network.generate(**inputs, max_new_tokens=8, do_sample=False), texts[0])


@torch.no_grad()
def test_an_encoder_starts_from_its_own_keys_and_values(bert: Maker):
    network = bert("sdpa")
    with switched_off(network):
        layers = [layer.attention.self for layer in network.encoder.layer]
        found = read(network, layers, input_ids=TEXT[None])
    start_from(network.train(), TEXT)
    assert network.training
    for layer, (asks, _, _) in zip(layers, found, strict=True):
        torch.testing.assert_close(layer.prefix.keys, split(layer.key(asks), 4)[0])
        torch.testing.assert_close(layer.prefix.values, split(layer.value(asks), 4)[0])


@torch.no_grad()
def test_a_decoder_with_rotary_places_starts_as_if_it_had_read_the_text(llama: Maker):
    network = llama("sdpa")
    start_from(network, TEXT)
    found = network.model(input_ids=IDS[:1]).last_hidden_state
    with switched_off(network):
        expected = network.model(input_ids=torch.cat([TEXT, IDS[0]])[None]).last_hidden_state[:, 3:]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "places"),
    [
        (GPT2Model(GPT2Config(n_embd=16, n_layer=2, n_head=2, **TOKENS)), ["h.0.attn", "h.1.attn"]),
        (
            ModernBertModel(
                ModernBertConfig(num_hidden_layers=2, local_attention=4, cls_token_id=1, sep_token_id=2, **SMALL)
            ),
            ["layers.0.attn", "layers.1.attn"],
        ),
        (  # one attention that all layers share
            AlbertModel(AlbertConfig(num_hidden_layers=2, embedding_size=8, **SMALL)),
            ["encoder.albert_layer_groups.0.albert_layers.0.attention"],
        ),
    ],
)
def test_attention_is_found_by_running_the_network(network: Any, places: list[str]):
    before = network.eval()(input_ids=IDS)[0]
    changed = with_prefix(network)
    assert [*prefixes(changed)] == [f"{place}.prefix" for place in places]
    with switched_off(changed):
        assert torch.equal(changed(input_ids=IDS)[0], before)
    after = changed(input_ids=IDS)[0]
    assert not torch.allclose(after, before, atol=1e-3)
    after.square().sum().backward()
    assert all(prefix.keys.grad.any() and prefix.values.grad.any() for prefix in prefixes(changed).values())
    assert len(keys_and_values(changed, TEXT)) == len(places)


def test_attention_that_is_computed_elsewhere_is_refused():
    network = DebertaV2Model(DebertaV2Config(num_hidden_layers=1, **SMALL))
    with quiet(), pytest.raises(ModelError, match=r"DebertaV2Model does not compute attention by .* Use lora or full"):
        put_before(network, 3)
    assert network.config._attn_implementation == "eager"


def test_attention_of_another_kind_is_refused(bert: Maker):
    network = bert("sdpa")
    with pytest.raises(ModelError, match=r"BertModel computes attention with sdpa_behind_prefix, and keys .* eager"):
        put_before(network, 3)


def test_settings_are_saved_without_our_functions_names(bert: Maker, tmp_path: Path):
    bert("sdpa").config.save_pretrained(tmp_path)
    assert "behind_prefix" not in (tmp_path / "config.json").read_text()
