"""How much a generator looks at each passage, against what transformers itself returns."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.models.answer_rows import answer_rows, passage_spans
from burnish.models.attention_mass import attention_masses, require_watchable
from burnish.models.load import load_writer
from burnish.prompt import PromptFormat
from burnish.records import Chunk, Question

PROMPT, ANSWER = [5, 6, 7, 8, 9, 5, 6], [8, 9, 7]
SPANS = [range(1, 3), range(3, 6), range(0)]


def test_a_decoders_mass_is_weight_times_norm_over_all_its_layers(tmp_path: Path) -> None:
    network, _ = load_writer(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    before = network.config._attn_implementation
    [ours, short] = attention_masses(network, [(PROMPT, ANSWER), (PROMPT[:3], ANSWER)], [SPANS, SPANS[:1]])
    assert network.config._attn_implementation == before
    network.set_attn_implementation("eager")
    values: list[Tensor] = []
    handles = [
        layer.self_attn.v_proj.register_forward_hook(lambda _, __, out: values.append(out[0]))
        for layer in network.model.layers
    ]
    ids = torch.tensor([[*PROMPT, *ANSWER[:-1]]])
    with torch.no_grad():
        weights = network(input_ids=ids, output_attentions=True, use_cache=False).attentions
    for handle in handles:
        handle.remove()
    heads, width = network.config.num_attention_heads, network.config.hidden_size // network.config.num_attention_heads
    expected = torch.zeros(len(SPANS))
    for layer, value in zip(weights, values, strict=True):
        shared = heads // network.config.num_key_value_heads
        for head in range(heads):
            norms = value[:, (head // shared) * width : (head // shared + 1) * width].norm(dim=1)
            for query in range(len(PROMPT) - 1, len(PROMPT) - 1 + len(ANSWER)):
                for place, span in enumerate(SPANS):
                    expected[place] += sum(layer[0, head, query, key] * norms[key] for key in span) / heads
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert short.shape == (1,)
    assert short.item() != pytest.approx(ours[0].item())


def test_an_encoder_decoder_is_watched_between_its_halves(tmp_path: Path) -> None:
    network, _ = load_writer(str(tiny.tiny_t5(tmp_path / "t5")), dtype=torch.float32)
    [ours] = attention_masses(network, [(PROMPT, ANSWER)], [SPANS])
    network.set_attn_implementation("eager")
    values: list[Tensor] = []
    blocks: list[nn.Module] = [block.layer[1].EncDecAttention for block in network.decoder.block]
    handles = [block.v.register_forward_hook(lambda _, __, out: values.append(out[0])) for block in blocks]  # type: ignore[union-attr, operator]
    begun = torch.tensor([[network.config.decoder_start_token_id, *ANSWER[:-1]]])
    with torch.no_grad():
        out = network(input_ids=torch.tensor([PROMPT]), decoder_input_ids=begun, output_attentions=True)
    for handle in handles:
        handle.remove()
    expected = torch.zeros(len(SPANS))
    for layer, value in zip(out.cross_attentions, values, strict=True):
        heads = value.view(len(PROMPT), layer.shape[1], -1)
        mass = (layer[0] * heads.norm(dim=2).T[:, None]).mean(0).sum(0)
        expected += torch.stack([mass[span.start : span.stop].sum() for span in SPANS])
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_spans_are_the_tokens_of_each_passage(tmp_path: Path, model: str) -> None:
    network, tokenizer = load_writer(str(getattr(tiny, model)(tmp_path / "model")), dtype=torch.float32)
    apart = network.config.is_encoder_decoder
    chunks = [Chunk(id="a", text="the cat is red"), Chunk(id="b", text="is red"), Chunk(id="c", text="one blue fish")]
    row, form = Question(id="q", question="the cat is red", answers=("one",)), PromptFormat(question_first=True)
    [(prompt, _)] = answer_rows(form, row, [chunks], tokenizer, apart=apart)
    spans = passage_spans(form, row, chunks, tokenizer, apart=apart)
    said = [tokenizer.decode(prompt[span.start : span.stop]).strip() for span in spans]
    assert said == [chunk.text for chunk in chunks]
    assert row.question in tokenizer.decode(prompt[: spans[0].start])  # which reads like the first passage
    assert all(one.stop <= other.start for one, other in pairwise(spans))


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_what_a_method_puts_before_the_text_is_refused(tmp_path: Path, method: str) -> None:
    network, _ = load_writer(str(tiny.tiny_llama(tmp_path / "llama")), dtype=torch.float32)
    require_watchable(network)
    with pytest.raises(ModelError, match="loss adist looks at the attention between"):
        require_watchable(Method.read({"kind": method}).apply(network))
