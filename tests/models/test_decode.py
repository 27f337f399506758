import random
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from burnish.methods import Method
from burnish.models.completions import collate_branches, completion_logits
from burnish.models.decode import ROWS_A_PASS, shared_start, write, write_greedily
from burnish.models.load import load_causal, load_seq2seq


@pytest.fixture(scope="module", params=range(3))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.tiny_llama(tmp_path_factory.mktemp("llama"), seed=request.param)
    return load_causal(str(folder), dtype=torch.float32)[0].eval()


def prompts(count: int, *, shared: int) -> list[list[int]]:
    draw = random.Random(count)
    start = [draw.randrange(5, 60) for _ in range(shared)]
    return [start + [draw.randrange(5, 60) for _ in range(draw.randint(1, 20))] for _ in range(count)]


def expected(model: Any, prompt: list[int], *, end: int, length: int) -> list[int]:
    """Return what transformers writes for a prompt of its own."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length, eos_token_id=end
    )
    text = out[0, len(prompt) :].tolist()
    return text[: text.index(end)] if end in text else text


@pytest.mark.parametrize("shared", [0, 9])
@pytest.mark.parametrize("packed", [True, False])
def test_rows_are_written_as_transformers_writes_each_alone(
    model: Any, packed: bool, shared: int, monkeypatch: pytest.MonkeyPatch
):
    if not packed:
        monkeypatch.setattr("burnish.models.decode.is_packed", lambda _: False)
    rows = prompts(ROWS_A_PASS + 7, shared=shared)
    unended = write_greedily(model, rows, end=-1, max_new_tokens=12)
    end = max(range(5, 60), key=lambda token: sum(token in text[3:] for text in unended))  # so that some rows end
    written = write_greedily(model, rows, end=end, max_new_tokens=12)
    assert written == [expected(model, row, end=end, length=12) for row in rows]
    assert len({len(text) for text in written}) > 1


def test_equal_prompts_get_equal_texts(model: Any):
    [prompt] = prompts(1, shared=5)
    written = write_greedily(model, [prompt] * 3, end=-1, max_new_tokens=6)
    assert written == [expected(model, prompt, end=-1, length=6)] * 3


def test_finished_prompts_are_counted_aloud(model: Any):
    seen: list[int] = []
    write_greedily(model, prompts(ROWS_A_PASS + 4, shared=0), end=3, max_new_tokens=2, done=seen.append)
    assert seen == [ROWS_A_PASS, ROWS_A_PASS + 4]


def test_no_prompts_give_no_texts(model: Any):
    assert write_greedily(model, [], end=3, max_new_tokens=2) == []


def test_the_shared_start_leaves_each_prompt_a_token_of_its_own():
    assert shared_start([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_start([[1, 2], [1, 2, 3]]) == 1
    assert shared_start([[1, 2, 3]] * 2) == 2
    assert shared_start([[1], [2]]) == 0


@pytest.mark.parametrize("kind", ["prefix", "prompt", "lora"])
def test_an_adapted_model_writes_what_it_says_when_all_is_read_anew_at_each_step(kind: str, tmp_path: Path):
    network, _ = load_causal(str(tiny.tiny_llama(tmp_path)), dtype=torch.float32)
    model: Any = Method.read(kind).apply(network).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.2)
    rows = prompts(5, shared=3)
    wanted = []
    for row in rows:
        text: list[int] = []
        for _ in range(8):  # the token that is told where the last one of the text stands
            with torch.no_grad():
                logits = completion_logits(model, collate_branches([([*row, *text], [[0]])]))
            text.append(int(logits.argmax()))
        wanted.append(text)
    assert write(model, rows, end=-1, pad=0, max_new_tokens=8) == wanted


def test_an_encoder_decoder_writes_each_row_as_alone(tmp_path: Path):
    model, tokenizer = load_seq2seq(str(tiny.tiny_t5(tmp_path)), dtype=torch.float32)
    rows = [[*row, tokenizer.eos_token_id] for row in prompts(6, shared=0)]
    together = write(model.eval(), rows, end=1, pad=0, max_new_tokens=6)
    assert together == [write(model, [row], end=1, pad=0, max_new_tokens=6)[0] for row in rows]
    assert all(len(text) <= 6 for text in together)
