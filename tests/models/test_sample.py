"""Samples: drawn by the model's own probabilities, each from its seed, prompt and number alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.methods import Method
from burnish.models.completions import collate_branches, collate_branches_apart, completion_logits
from burnish.models.decode import ROWS_A_PASS, Sample, Sampling, sample, write
from burnish.models.load import load_causal, load_seq2seq

KINDS = ("llama", "t5", "prefix", "prompt")
PROMPTS = [[5 + (7 * row + place) % 50 for place in range(2 + row)] for row in range(7)]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "t5":
        return load_seq2seq(str(tiny.tiny_t5(folder)), dtype=torch.float32)[0].eval()
    network, _ = load_causal(str(tiny.tiny_llama(folder)), dtype=torch.float32)
    torch.manual_seed(0)
    return (network if request.param == "llama" else Method.read(request.param).apply(network)).eval()


def draw(
    model: Any,
    prompts: list[list[int]],
    sampling: Sampling,
    *,
    count: int,
    end: int = -1,
    tokens: int = 4,
    first: int = 0,
) -> list[list[Sample]]:
    """Draw texts; `first` is the key of the first prompt."""
    keys = range(first, first + len(prompts))
    return sample(model, prompts, keys=keys, count=count, sampling=sampling, end=end, pad=0, max_new_tokens=tokens)


def logits_of(model: Any, prompt: list[int], text: tuple[int, ...]) -> torch.Tensor:
    """Return the (tokens, vocabulary) logits that one pass over prompt and text gives at the text's tokens."""
    collate = collate_branches_apart if model.config.is_encoder_decoder else collate_branches
    with torch.no_grad():
        return completion_logits(model, collate([(prompt, [text])])).double()


def test_a_sample_does_not_depend_on_who_shares_its_pass(model: Any):
    together = draw(model, PROMPTS, Sampling(seed=3), count=5)
    for key, prompt in enumerate(PROMPTS):
        [alone] = draw(model, [prompt], Sampling(seed=3), count=5, first=key)
        assert [one.tokens for one in alone] == [one.tokens for one in together[key]]
        [fewer] = draw(model, [prompt], Sampling(seed=3), count=2, first=key)
        assert [one.tokens for one in fewer] == [one.tokens for one in together[key]][:2]
    assert len({one.tokens for one in together[0]}) > 1


def test_another_seed_or_key_draws_other_texts(model: Any):
    ours = draw(model, PROMPTS, Sampling(seed=3), count=3)
    assert draw(model, PROMPTS, Sampling(seed=3), count=3) == ours
    assert draw(model, PROMPTS, Sampling(seed=4), count=3) != ours
    assert draw(model, PROMPTS, Sampling(seed=3), count=3, first=9) != ours


def test_log_probabilities_are_those_of_one_pass_over_the_text(model: Any):
    for sampling in (Sampling(seed=1), Sampling(seed=1, temperature=2.0, top_p=0.8)):
        for prompt, texts in zip(PROMPTS, draw(model, PROMPTS, sampling, count=3, end=9), strict=True):
            for text in texts:
                logps = logits_of(model, prompt, text.tokens).log_softmax(dim=-1)
                expected = logps.gather(1, torch.tensor(text.tokens)[:, None])[:, 0]
                torch.testing.assert_close(torch.tensor(text.logps).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_text_ends_with_its_end_or_is_cut(model: Any):
    unended = draw(model, PROMPTS, Sampling(seed=1), count=8)
    end = Counter(token for texts in unended for one in texts for token in one.tokens[1:3]).most_common(1)[0][0]
    found = draw(model, PROMPTS, Sampling(seed=1), count=8, end=end)
    for before, after in zip(unended, found, strict=True):
        for long, short in zip(before, after, strict=True):
            assert long.tokens[: len(short.tokens)] == short.tokens
            assert short.ended == (end in long.tokens)
            assert short.tokens.count(end) == int(short.ended)
            assert len(short.logps) == len(short.tokens)
            assert len(short.tokens) == 4 or short.ended


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(0, temperature=0.5), Sampling(0, top_p=0.6)])
def test_tokens_come_as_often_as_their_probability_says(tmp_path: Path, sampling: Sampling):
    model, _ = load_causal(str(tiny.tiny_llama(tmp_path)), dtype=torch.float32)
    count = 4000
    [texts] = draw(model.eval(), PROMPTS[:1], sampling, count=count, tokens=1)
    [logits] = logits_of(model, PROMPTS[0], (5,))
    chances = (logits / sampling.temperature).softmax(dim=0)
    ordered = chances.sort(descending=True)
    kept = ordered.indices[: int((ordered.values.cumsum(dim=0) < sampling.top_p).sum()) + 1]
    expected = torch.zeros_like(chances)
    expected[kept] = chances[kept] / chances[kept].sum()
    found = torch.bincount(torch.tensor([one.tokens[0] for one in texts]), minlength=len(chances)) / count
    error = (expected * (1 - expected) / count).sqrt()  # of a share, by chance
    assert ((found - expected).abs() <= 4 * error + 2 / count).all()
    assert (found[expected == 0] == 0).all()
    assert error.max() < 0.01 < expected.max()


def test_a_low_temperature_is_the_likeliest_text(model: Any):
    found = draw(model, PROMPTS, Sampling(seed=0, temperature=1e-4), count=2)
    likeliest = write(model, PROMPTS, end=-1, pad=0, max_new_tokens=4)
    assert [[list(one.tokens) for one in texts] for texts in found] == [[text] * 2 for text in likeliest]


def test_finished_prompts_are_counted_aloud(model: Any):
    seen: list[int] = []
    sample(
        model,
        PROMPTS,
        keys=range(len(PROMPTS)),
        count=ROWS_A_PASS // 4,
        sampling=Sampling(seed=0),
        end=3,
        pad=0,
        max_new_tokens=2,
        done=seen.append,
    )
    assert seen == [4, 7]
